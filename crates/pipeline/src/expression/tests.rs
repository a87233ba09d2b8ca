//! Vectors of templates and conditions; a fault of each kind is in the documents' data file.

use serde_json::Value;

use super::{
    ConditionText, Evaluated, Missing, Names, Path, Place, Template, holds, parse_path, walk,
};

#[derive(Debug)]
struct Fixed(Value);

impl Names for Fixed {
    fn find(&self, path: &Path, _: Place) -> Evaluated {
        let found = match self.0.get(&path.root) {
            Some(value) => walk(std::borrow::Cow::Borrowed(value), &path.segments),
            None => Err(None),
        };
        match found {
            Ok(value) => Evaluated::Present(value.into_owned()),
            Err(available) => Evaluated::Missing(Missing { path: path.to_string(), available }),
        }
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/data/expressions.json")).unwrap()
}

fn rows<'v>(vectors: &'v Value, table: &str) -> &'v [Value] {
    vectors[table].as_array().unwrap()
}

#[test]
fn templates_have_the_values_of_their_vectors() {
    let vectors = vectors();
    let names = Fixed(vectors["names"].clone());
    for row in rows(&vectors, "templates") {
        let source = row[0].as_str().unwrap();
        let template = Template::parse(source).unwrap_or_else(|e| panic!("{source}: {e:?}"));
        assert_eq!(template.value(&names).as_ref(), Ok(&row[1]), "{source}");
        let again: Template =
            serde_json::from_value(serde_json::to_value(&template).unwrap()).unwrap();
        assert_eq!(again, template, "{source}");
    }
    for row in rows(&vectors, "missing") {
        let source = row[0].as_str().unwrap();
        let missing = Template::parse(source).unwrap().value(&names).unwrap_err();
        assert_eq!(
            (missing.path.as_str(), missing.fields()),
            (row[1].as_str().unwrap(), row[2].as_str().unwrap().to_owned()),
            "{source}"
        );
    }
}

#[test]
fn conditions_hold_as_their_vectors_say() {
    let vectors = vectors();
    let names = Fixed(vectors["names"].clone());
    for row in rows(&vectors, "conditions") {
        let source = row[0].as_str().unwrap();
        let parsed = ConditionText::parse(source).unwrap_or_else(|e| panic!("{source}: {e:?}"));
        let held = holds(&parsed.expression, &names, Place::Condition);
        assert_eq!(held, row[1].as_bool().unwrap(), "{source}");
    }
}

#[test]
fn extracted_paths_have_all_three_notations() {
    let shown = |text: &str| -> String {
        parse_path(text).unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(shown("a.b[0]"), ".a.b[0]");
    assert_eq!(shown("$.a[0].b"), ".a[0].b");
    assert_eq!(shown("$['a b']"), "[\"a b\"]");
    assert_eq!(shown("[1].x"), "[1].x");
    assert_eq!(shown("rows.0.k"), ".rows.0.k");
    assert!(parse_path("").is_err());
    assert!(parse_path("a b").is_err());
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = format!("{}a{}", "(".repeat(65), ")".repeat(65));
    assert!(ConditionText::parse(&nested).is_err());
    assert!(ConditionText::parse(&"(".repeat(1_000_000)).is_err());
    assert!(ConditionText::parse(&format!("{} a", "! ".repeat(10_000))).is_ok());
    let chain = ConditionText::parse(&format!("a{}", " or a".repeat(12_000))).unwrap();
    assert!(!holds(&chain.expression, &Fixed(Value::Null), Place::Condition));
    let filters = format!("{{{{ a{} }}}}", " | default(a)".repeat(4_000));
    assert!(Template::parse(&filters).unwrap().value(&Fixed(Value::Null)).is_err());
    assert!(ConditionText::parse(&"a".repeat(70_000)).is_err());
    assert!(Template::parse(&format!("{{{{ a{} }}}}", ".a".repeat(40_000))).is_err());
}
