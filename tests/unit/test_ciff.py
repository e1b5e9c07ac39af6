"""The inverted index for other engines: read by the official schema, and ranked by what it says."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from imgsearch_es.errors import ExchangeError

SCHEMA = (  # ciff.proto as protoc compiles it, from ciff-toolkit 0.2.2
    b'\n\nciff.proto\x12\x0eio.osirrc.ciff"\xcc\x01\n\x06Header\x12\x0f\n\x07version\x18\x01 \x01'
    b"(\x05\x12\x1a\n\x12num_postings_lists\x18\x02 \x01(\x05\x12\x10\n\x08num_docs\x18\x03 \x01("
    b"\x05\x12\x1c\n\x14total_postings_lists\x18\x04 \x01(\x05\x12\x12\n\ntotal_docs\x18\x05 \x01("
    b"\x05\x12!\n\x19total_terms_in_collection\x18\x06 \x01(\x03\x12\x19\n\x11\x61verage_doclength"
    b'\x18\x07 \x01(\x01\x12\x13\n\x0b\x64\x65scription\x18\x08 \x01(\t"$\n\x07Posting\x12\r\n\x05'
    b'\x64ocid\x18\x01 \x01(\x05\x12\n\n\x02tf\x18\x02 \x01(\x05"_\n\x0cPostingsList\x12\x0c\n\x04'
    b"term\x18\x01 \x01(\t\x12\n\n\x02\x64\x66\x18\x02 \x01(\x03\x12\n\n\x02\x63\x66\x18\x03 \x01("
    b'\x03\x12)\n\x08postings\x18\x04 \x03(\x0b\x32\x17.io.osirrc.ciff.Posting"G\n\tDocRecord\x12'
    b"\r\n\x05\x64ocid\x18\x01 \x01(\x05\x12\x18\n\x10\x63ollection_docid\x18\x02 \x01(\t\x12\x11\n"
    b"\tdoclength\x18\x03 \x01(\x05\x62\x06proto3"
)


def read(path: Path):
    """The header, the postings as {term: {document: tf}}, and the records of documents."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(SCHEMA))
    kinds = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"io.osirrc.ciff.{name}"))
        for name in ("Header", "PostingsList", "DocRecord")
    }
    data = path.read_bytes()
    data, at = gzip.decompress(data) if path.suffix == ".gz" else data, 0

    def message(kind: str):
        nonlocal at
        size = shift = 0
        while True:
            byte, at = data[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += size
        return kinds[kind].FromString(data[at - size : at])

    header = message("Header")
    lists = [message("PostingsList") for _ in range(header.num_postings_lists)]
    records = [message("DocRecord") for _ in range(header.num_docs)]
    assert at == len(data)
    return header, lists, records


@pytest.mark.parametrize("name", ["pets.ciff", "pets.ciff.gz"])
def test_the_file_has_every_term_in_whole_steps(index, tmp_path, name):
    report = index.export(tmp_path / name)
    rounding = report.rounding
    header, lists, records = read(tmp_path / name)
    documents = {document.id: document for document in index.store.documents()}
    assert (report.documents, header.num_docs, header.version) == (12, 12, 1)
    assert {record.collection_docid for record in records} == documents.keys()
    assert [record.docid for record in records] == list(range(12))
    terms = [found.term for found in lists]
    assert terms == sorted(terms, key=str.encode)
    stored = {
        (term.key.lower(), document.id): term.score
        for document in documents.values()
        for term in document.terms
    }
    found, lengths = {}, np.zeros(12, dtype=int)
    for one in lists:
        places = np.cumsum([posting.docid for posting in one.postings])
        weights = [posting.tf for posting in one.postings]
        assert (one.df, one.cf) == (len(weights), sum(weights))
        assert min(weights) >= 1
        lengths[places] += weights
        found |= {
            (one.term, records[place].collection_docid): weight
            for place, weight in zip(places, weights, strict=True)
        }
    assert [record.doclength for record in records] == lengths.tolist()
    assert header.total_terms_in_collection == lengths.sum()
    assert header.average_doclength == pytest.approx(lengths.mean())
    assert found.keys() == stored.keys()
    small = [score for score in stored.values() if score < rounding.step / 2]
    assert (rounding.postings, rounding.raised) == (len(found), len(small))
    for key, score in stored.items():
        off = abs(found[key] * rounding.step - score)
        assert off <= rounding.step * (1 if score < rounding.step / 2 else 0.5001)
    added = sum(rounding.step - score for score in small)
    assert rounding.added == pytest.approx(added / sum(stored.values()))
    assert f"steps of {rounding.step!r}" in header.description


def test_it_ranks_as_we_do_where_steps_do_not_matter(index, cat, tmp_path):
    """By the inner product of a query's weights with the file's, as engines for impacts rank."""
    rounding = index.export(tmp_path / "pets.ciff").rounding
    _, lists, records = read(tmp_path / "pets.ciff")
    query = index.query(image=cat, k=12)
    weights = {term.key.lower(): term.score for term in query.terms}
    scores = np.zeros(12)
    for one in lists:
        places = np.cumsum([posting.docid for posting in one.postings])
        tf = np.array([posting.tf for posting in one.postings])
        scores[places] += weights.get(one.term, 0) * tf * rounding.step
    exact = {hit.id: hit.score for hit in index.search_many([query])[0]}
    bound = sum(weights.values()) * rounding.step
    for record, score in zip(records, scores, strict=True):
        assert abs(score - exact.get(record.collection_docid, 0)) <= bound


def test_the_command_says_what_it_costs_and_nothing_comes_back(run, asked, index, tmp_path):
    file = tmp_path / "pets.ciff"
    index.close()
    text = run("export", file, "--index", index.location).output
    assert "weights are whole multiples of" in text
    assert "to the sum of all weights" in text
    values = asked("export", file, "--index", index.location, "--force")
    assert values["rounding"]["postings"] > 0
    assert "without pictures" in run("import", file, "--index", tmp_path / "new", code=1).output
    with pytest.raises(ExchangeError, match=r"holds no pictures: leave out"):
        index.export(tmp_path / "other.ciff", pictures=True)
