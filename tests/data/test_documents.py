from gpt2_lightning.data.documents import Document, Segment


def test_a_document_is_learned_whole_or_in_its_segments():
    plain = Document("a b", "file")
    assert plain.pieces == (Segment("a b", learned=True),)
    assert plain.learned_text == "a b"
    record = Document.of((Segment("1+1=", learned=False), Segment("2", learned=True)), "file:1")
    assert (record.text, record.learned_text, record.pieces) == ("1+1=2", "2", record.segments)
