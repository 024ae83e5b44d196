"""A university in RDF, after the Lehigh University Benchmark (Guo, Pan, Heflin, 2005), and RDFS entailment as rules.

The rules are those that owlrl's RDFS_Semantics applies (rdf1 and rdfs2 to rdfs11 of the RDF Semantics of 2004), with
its one deviation: only what stated triples speak of becomes a resource.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cli.graphbench.workloads import Workload
from graph.rules.reader import parse

RDFS = """
.decl stated(subject, predicate, object)
.decl triple(subject, predicate, object)
stated: triple(S, P, O) :- stated(S, P, O).
rdf1:   triple(P, "rdf:type", "rdf:Property") :- triple(_, P, _).
rdfs2:  triple(S, "rdf:type", C) :- triple(P, "rdfs:domain", C), triple(S, P, _).
rdfs3:  triple(O, "rdf:type", C) :- triple(P, "rdfs:range", C), triple(_, P, O).
rdfs4a: triple(S, "rdf:type", "rdfs:Resource") :- stated(S, _, _).
rdfs4b: triple(O, "rdf:type", "rdfs:Resource") :- stated(_, _, O).
rdfs5:  triple(P, "rdfs:subPropertyOf", R) :- triple(P, "rdfs:subPropertyOf", Q), triple(Q, "rdfs:subPropertyOf", R).
rdfs6:  triple(P, "rdfs:subPropertyOf", P) :- triple(P, "rdf:type", "rdf:Property").
rdfs7:  triple(S, Q, O) :- triple(P, "rdfs:subPropertyOf", Q), triple(S, P, O).
rdfs8:  triple(C, "rdfs:subClassOf", "rdfs:Resource") :- triple(C, "rdf:type", "rdfs:Class").
rdfs9:  triple(S, "rdf:type", D) :- triple(C, "rdfs:subClassOf", D), triple(S, "rdf:type", C).
rdfs10: triple(C, "rdfs:subClassOf", C) :- triple(C, "rdf:type", "rdfs:Class").
rdfs11: triple(C, "rdfs:subClassOf", E) :- triple(C, "rdfs:subClassOf", D), triple(D, "rdfs:subClassOf", E).
"""
_CLASSES = {
    "University": "Organization", "Department": "Organization", "ResearchGroup": "Organization",
    "Employee": "Person", "Faculty": "Employee", "Professor": "Faculty", "Lecturer": "Faculty",
    "FullProfessor": "Professor", "AssociateProfessor": "Professor", "AssistantProfessor": "Professor",
    "Chair": "Professor", "Student": "Person", "UndergraduateStudent": "Student", "GraduateStudent": "Student",
    "TeachingAssistant": "Person", "Course": "Work", "GraduateCourse": "Course", "Publication": "Work",
    "Article": "Publication",
}  # fmt: skip
_PROPERTIES = {
    "headOf": ("worksFor", "", ""), "worksFor": ("memberOf", "", ""), "memberOf": ("", "Person", "Organization"),
    "undergraduateDegreeFrom": ("degreeFrom", "", ""), "doctoralDegreeFrom": ("degreeFrom", "", ""),
    "degreeFrom": ("", "Person", "University"), "subOrganizationOf": ("", "Organization", "Organization"),
    "teacherOf": ("", "Faculty", "Course"), "takesCourse": ("", "Student", "Course"),
    "advisor": ("", "Person", "Professor"), "publicationAuthor": ("", "Publication", "Person"),
    "teachingAssistantOf": ("", "TeachingAssistant", "Course"),
}  # fmt: skip
"""Each property's wider property, domain and range."""
_DERIVED_A_STUDENT = 13.3
_DERIVED_BESIDES = 380
"""Derived triples grow by so many a student, over those of the schema; measured."""
_UNIVERSITIES = 20
_SEED = 7


def university(size: int) -> Workload:
    """RDFS entailment, of about ``size`` derived triples, of departments with teachers, students and publications."""
    places: dict[str, int] = {}
    stated = sorted({*_schema(), *_departments(max(1, round((size - _DERIVED_BESIDES) / _DERIVED_A_STUDENT)))})
    rows = np.array([[places.setdefault(name, len(places)) for name in triple] for triple in stated], np.int64)
    about = f"RDFS entailment of {len(stated)} triples of universities"
    return Workload("university", about, "rdfs", parse(RDFS), {"stated": rows}, tuple(places))


def _schema() -> Iterator[tuple[str, str, str]]:
    for name in {*_CLASSES, *_CLASSES.values()}:
        yield name, "rdf:type", "rdfs:Class"
    for name, wider in _CLASSES.items():
        yield name, "rdfs:subClassOf", wider
    for name, (wider, domain, range_) in _PROPERTIES.items():
        yield name, "rdf:type", "rdf:Property"
        for property_, value in (("rdfs:subPropertyOf", wider), ("rdfs:domain", domain), ("rdfs:range", range_)):
            if value:
                yield name, property_, value


def _departments(students: int) -> Iterator[tuple[str, str, str]]:
    """Departments of 100 students and 12 teachers; the last one is cut where the students are enough."""
    rng = np.random.default_rng(_SEED)
    for department in range(-(-students // 100)):
        name = f"department{department}"
        yield name, "rdf:type", "Department"
        yield name, "subOrganizationOf", f"university{department // 15}"
        yield from _teachers(name, rng)
        for student in range(min(100, students - 100 * department)):
            yield from _student(name, student, rng)


def _teachers(department: str, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    ranks = ("FullProfessor", "AssociateProfessor", "AssistantProfessor", "Lecturer")
    for i in range(12):
        teacher = f"{department}/teacher{i}"
        yield teacher, "rdf:type", ranks[i % 4]
        yield teacher, "headOf" if i == 0 else "worksFor", department
        yield teacher, "doctoralDegreeFrom", f"university{rng.integers(_UNIVERSITIES)}"
        for course in (f"{department}/course{i}", f"{department}/graduate{i}"):
            yield teacher, "teacherOf", course
        for article in range(3):
            yield f"{teacher}/article{article}", "rdf:type", "Article"
            yield f"{teacher}/article{article}", "publicationAuthor", teacher


def _student(department: str, i: int, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    student, is_graduate = f"{department}/student{i}", i % 4 == 0
    yield student, "rdf:type", "GraduateStudent" if is_graduate else "UndergraduateStudent"
    yield student, "memberOf", department
    for course in rng.choice(12, 3, replace=False):
        yield student, "takesCourse", f"{department}/{'graduate' if is_graduate else 'course'}{course}"
    if is_graduate:
        yield student, "advisor", f"{department}/teacher{rng.integers(3)}"
        yield student, "undergraduateDegreeFrom", f"university{rng.integers(_UNIVERSITIES)}"
        yield student, "teachingAssistantOf", f"{department}/course{i % 12}"
