//! No input makes the check or an evaluation panic, whatever its bytes are.

#![expect(clippy::unwrap_used, reason = "a broken fixture shall fail its test")]

#[path = "../fuzz/holds.rs"]
mod holds;

use perennial_pipeline::Pipeline;
use proptest::prelude::*;
use serde_json::Value;

const SEED: &str = "\
workflow:
  name: \"review é\"
  variables: &v {a: 1, 'b': [x, \"y\\u0041\"]}
  inputs: {who: string}
  steps:
    - name: one
      type: set_variable
      variables: {<<: *v, c: \"{{ inputs.who ?? 'x' }}\"}
    - name: two
      type: claude
      condition: {or: [\"one.c != null\", \"not (a == 1)\"]}
      prompt:
        - type: static
          content: |
            Say {{ state.c | default(\"n\") }}
            \\{{ raw }}
        - {type: previous_response, step: one, extract: \"values.a[0]\"}
";

fn survives(bytes: &[u8]) {
    holds::document(bytes);
}

/// The inputs that the fuzzer kept for a target, each a text, or the bytes of what is none.
fn kept(corpus: &str) -> Vec<Vec<u8>> {
    let inputs: Vec<Value> = serde_json::from_str(corpus).unwrap();
    let byte = |value: Value| u8::try_from(value.as_u64().unwrap()).unwrap();
    inputs
        .into_iter()
        .map(|input| match input {
            Value::String(text) => text.into_bytes(),
            Value::Array(bytes) => bytes.into_iter().map(byte).collect(),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                panic!("no input: {other}")
            }
        })
        .collect()
}

#[test]
fn documents_that_a_fuzzer_kept_are_survived() {
    let inputs = kept(include_str!("data/corpus/document.json"));
    assert!(inputs.len() > 500, "{} inputs", inputs.len());
    inputs.iter().for_each(|input| holds::document(input));
}

#[test]
fn formulas_that_a_fuzzer_kept_are_survived() {
    for (corpus, holds) in [
        (include_str!("data/corpus/template.json"), holds::template as fn(&str)),
        (include_str!("data/corpus/condition.json"), holds::condition),
    ] {
        let inputs = kept(corpus);
        assert!(inputs.len() > 500, "{} inputs", inputs.len());
        inputs.iter().for_each(|input| holds(&String::from_utf8_lossy(input)));
    }
}

#[test]
fn the_seed_is_without_fault() {
    let checked = Pipeline::check("f.yaml", SEED.as_bytes());
    assert!(checked.pipeline.is_some(), "{:?}", checked.diagnostics);
    survives(SEED.as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes);
    }

    #[test]
    fn random_words_of_the_language_do_not_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("workflow:"), Just("\n"), Just("  "), Just("- "), Just("name: "), Just("{{"),
            Just("}}"), Just("[")  , Just("]"), Just("{"), Just("}"), Just("&a "), Just("*a"),
            Just("<<: "), Just("'"), Just("\""), Just("|\n"), Just("é"), Just("steps:"),
            Just("type: echo"), Just("\\"), Just("? "), Just(": "), Just("!!str "), Just("#"),
            Just("\r"), Just("\t"), Just("value: "), Just("...\n"), Just("---\n"), Just(","),
        ], 0..60)) {
        survives(words.concat().as_bytes());
    }

    #[test]
    fn mutated_documents_do_not_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..8)
    ) {
        let mut bytes = SEED.as_bytes().to_vec();
        for (place, byte, kind) in edits {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        survives(&bytes);
    }

    #[test]
    fn holes_do_not_panic(hole in "[ a-c.'\"?()=!|\\[\\]{}0-9_@$é-]{0,30}") {
        let quoted = serde_json::to_string(&format!("x {{{{{hole}}}}} y")).unwrap();
        let condition = serde_json::to_string(&hole).unwrap();
        survives(format!("workflow:\n  name: x\n  steps:\n    - name: a\n      type: echo\n      value: {quoted}\n      condition: {condition}\n").as_bytes());
    }

    #[test]
    fn random_words_of_expressions_do_not_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("a"), Just("steps"), Just(" "), Just("."), Just("["), Just("]"), Just("("), Just(")"),
            Just("{"), Just("}"), Just("{{"), Just("}}"), Just("?("), Just(" ? "), Just(" : "), Just("?"),
            Just("??"), Just("|"), Just("*"), Just("-"), Just("+"), Just("/"), Just("%"), Just("'"),
            Just("\\"), Just("\""), Just(","), Just("=>"), Just("x"), Just("any("), Just("map(["),
            Just("not "), Just(" in "), Just(" between "), Just(" and "), Just(" matches "), Just("@"),
            Just("$"), Just("1"), Just("-9223372036854775808"), Just("1e308"), Just(" == "), Just(" < "),
            Just("previous_response:"), Just("upper("), Just("é"), Just("null"), Just(":"),
        ], 0..24)) {
        let text = words.concat();
        let (hole, condition) = (format!("{{{{{text}}}}}"), text);
        let quote = |text: &str| serde_json::to_string(text).unwrap();
        survives(format!("workflow:\n  name: x\n  steps:\n    - name: a\n      type: echo\n      value: {}\n      condition: {}\n", quote(&hole), quote(&condition)).as_bytes());
    }
}
