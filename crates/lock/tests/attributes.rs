//! What the attribute refuses, and what it says of it. `TRYBUILD=overwrite` writes down what is said.

#[test]
fn what_is_refused_is_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass.rs");
    cases.compile_fail("tests/ui/refused_*.rs");
}
