"""How an account or a person is recognised in values and texts."""

from __future__ import annotations

from serving.privacy.subject import Subject


def test_an_id_is_replaced_as_a_whole_word_only():
    subject = Subject("account", "A-00194", pseudonym="forgotten-1")
    assert subject.cleaned("A-00194") == "forgotten-1"
    assert subject.cleaned("see A-00194, not A-001945") == "see [removed], not A-001945"
    assert subject.cleaned("A-00194-U003") == "A-00194-U003", "an id of its own"


def test_a_short_id_is_never_searched_for_in_texts():
    subject = Subject("account", "7", pseudonym="forgotten-1")
    assert subject.cleaned("7") == "forgotten-1"
    assert subject.cleaned("7 seats of 77") == "7 seats of 77"
    assert subject.cleaned_value({"n": 7, "ids": ["7", "8"]}) == {
        "n": 7,
        "ids": ["forgotten-1", "8"],
    }


def test_an_e_mail_address_is_compared_without_case():
    subject = Subject("person", "Jo@acme.example", pseudonym="forgotten-1")
    assert subject.equals(" jo@ACME.example")
    assert subject.cleaned("write to Jo@acme.example.") == "write to [removed]."
    assert subject.cleaned("bo.Jo@acme.example") == "bo.Jo@acme.example"


def test_objects_of_the_account_leave_lists_and_json_texts():
    subject = Subject("account", "A-00194", ("Acme & Sons",), "forgotten-1", searches_names=True)
    value = {
        "top": [{"account_id": "A-00194", "p": 0.3}, {"account_id": "A-00195", "p": 0.2}],
        "note": "Acme & Sons left",
        "A-00194": 1,
    }
    assert subject.cleaned_value(value) == {
        "top": [{"account_id": "A-00195", "p": 0.2}],
        "note": "[removed] left",
    }
    assert subject.cleaned('{"parent":"A-00194","n":1}') == '{"n":1,"parent":"forgotten-1"}'
    assert subject.cleaned('{"b":1,"a":2}') == '{"b":1,"a":2}', "unchanged JSON keeps its bytes"
    assert subject.removed_from("<b>Acme &amp; Sons</b>") == "<b>[removed]</b>"


def test_a_name_can_be_a_common_word_and_is_searched_for_in_reports_only():
    subject = Subject("account", "A-00194", ("Growth",), "forgotten-1")
    assert subject.cleaned("Growth") == "Growth", "a plan of another account"
    assert subject.cleaned("Growth is slow") == "Growth is slow"
    owner = Subject("person", "csm-1", ("Ada Lang",), "forgotten-2")
    assert owner.cleaned('{"owner":"Ada Lang"}') == '{"owner":"forgotten-2"}'


def test_two_pseudonyms_of_the_same_account_differ():
    assert Subject("account", "A-1").pseudonym != Subject("account", "A-1").pseudonym
