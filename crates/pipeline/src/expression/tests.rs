//! Vectors of the language as data; a fault of each kind is in the documents' data file.

use std::{borrow::Cow, cell::RefCell};

use serde_json::{Map, Value, json};

use super::{
    ConditionText, Missing, Names, Path, Place, Stop, Template, TextPath, Undecided, fields, holds,
    parser::{parse_path, tokens_read},
    walk,
};

/// Names of a table; a path to nothing says where it ended.
#[derive(Debug)]
struct Fixed {
    names: Value,
    undecided: Undecided,
    warnings: RefCell<Vec<String>>,
}

impl Fixed {
    fn new(names: Value) -> Self {
        Self { names, undecided: Undecided::Legacy, warnings: RefCell::default() }
    }

    fn strict(names: Value) -> Self {
        Self { undecided: Undecided::Error, ..Self::new(names) }
    }

    /// True or false, `undecided`, or the code of a fault.
    fn holds(&self, condition: &str) -> Value {
        let parsed =
            ConditionText::parse(condition).unwrap_or_else(|e| panic!("{condition}: {e:?}"));
        match holds(&parsed.expression, self) {
            Ok(held) => held.into(),
            Err(Stop::Missing(_) | Stop::Undecided(_)) => "undecided".into(),
            Err(Stop::Fault(fault)) => fault.code.into(),
        }
    }

    fn value(&self, template: &str) -> Result<Value, Stop> {
        let parsed = Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e:?}"));
        parsed.value(self)
    }
}

impl Names for Fixed {
    fn find(&self, path: &Path, _: Place) -> Result<Cow<'_, Value>, Missing> {
        let found = match (self.names.get(&path.root), path.root.as_str()) {
            (Some(value), _) => walk(Cow::Borrowed(value), &path.segments),
            (None, "steps") => walk(Cow::Borrowed(&self.names), &path.segments),
            (None, _) => Err(fields(&self.names)),
        };
        found.map_err(|available| Missing { path: path.to_string(), available })
    }

    fn uuid(&self) -> String {
        "id".to_owned()
    }

    fn now(&self) -> String {
        "2026-11-21T00:33:57.120Z".to_owned()
    }

    fn warn(&self, text: String) {
        self.warnings.borrow_mut().push(text);
    }

    fn undecided(&self) -> Undecided {
        self.undecided
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/data/expressions.json")).unwrap()
}

/// Every row of a table, with all that are wrong told at once.
fn each(table: &str, mut check: impl FnMut(&[Value]) -> Result<(), String>) {
    let vectors = vectors();
    let wrong: Vec<String> = vectors[table]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| check(row.as_array().unwrap()).err())
        .collect();
    assert!(wrong.is_empty(), "{table}:\n{}", wrong.join("\n"));
}

fn compare(row: &[Value], found: &Value, expected: &Value) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{}: {found}, not {expected}", row[0])) }
}

fn values_of(table: &str) {
    let names = Fixed::new(vectors()["names"].clone());
    each(table, |row| {
        let source = row[0].as_str().unwrap();
        let found = names.value(source).unwrap_or_else(|stop| json!(format!("{stop:?}")));
        let template = Template::parse(source).unwrap();
        let again: Template =
            serde_json::from_value(serde_json::to_value(&template).unwrap()).unwrap();
        assert_eq!(again, template, "{source}");
        compare(row, &found, &row[1])
    });
}

#[test]
fn templates_have_the_values_of_their_vectors() {
    values_of("templates");
    values_of("arithmetic");
    values_of("paths");
}

#[test]
fn functions_have_the_values_of_their_vectors() {
    values_of("functions");
    let vectors = vectors();
    let used: String = vectors["functions"].to_string() + &vectors["cases"].to_string();
    for function in super::function::all() {
        let called = [format!("{}(", function.name), format!("| {}", function.name)];
        assert!(called.iter().any(|text| used.contains(text)), "no vector of {}", function.name);
    }
}

#[test]
fn what_is_missing_in_a_template_is_named() {
    let names = Fixed::new(vectors()["names"].clone());
    each("missing", |row| match names.value(row[0].as_str().unwrap()) {
        Err(Stop::Missing(missing) | Stop::Undecided(missing)) => {
            compare(row, &json!([missing.path, missing.fields()]), &json!([row[1], row[2]]))
        }
        other => Err(format!("{}: {other:?}", row[0])),
    });
}

#[test]
fn conditions_hold_as_their_vectors_say() {
    let table = vectors()["names"].clone();
    let names = Fixed::new(table.clone());
    each("conditions", |row| compare(row, &names.holds(row[0].as_str().unwrap()), &row[1]));
    let strict = Fixed::strict(table);
    each("undecided", |row| {
        let source = row[0].as_str().unwrap();
        compare(row, &strict.holds(source), &row[1])?;
        compare(row, &names.holds(source), &row[2])
    });
}

/// The cases of the language's specification, by their ids.
#[test]
fn the_cases_of_the_specification_hold() {
    for case in vectors()["cases"].as_array().unwrap() {
        let names = Fixed::new(case["names"].clone());
        let rows = |key: &str| case[key].as_object().cloned().unwrap_or_else(Map::new);
        for (condition, held) in rows("conditions") {
            assert_eq!(names.holds(&condition), held, "{}: {condition}", case["id"]);
        }
        for (template, value) in rows("templates") {
            assert_eq!(names.value(&template), Ok(value), "{}: {template}", case["id"]);
        }
    }
}

#[test]
fn warnings_name_what_they_are_about() {
    let names = Fixed::new(vectors()["names"].clone());
    each("warnings", |row| {
        names.holds(row[0].as_str().unwrap());
        let warned = Value::from(names.warnings.take());
        compare(row, &warned, &row[1])
    });
}

#[test]
fn faults_are_told_with_their_code_and_place() {
    each("faults", |row| {
        let source = row[0].as_str().unwrap();
        let Err(error) = ConditionText::parse(source) else {
            return Err(format!("{source} is read"));
        };
        let code = error.code.map_or_else(|| "syntax".to_owned(), |code| code.to_string());
        let found = json!([code, &source[error.extent.start..error.extent.end]]);
        compare(row, &found, &json!([row[1], row[2]]))
    });
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
    assert!(matches!(TextPath::parse("$.a[*].b"), Ok(TextPath::Query(_))));
    assert!(matches!(TextPath::parse("a[*].b"), Ok(TextPath::Query(_))));
    let error = TextPath::parse("$.a[").unwrap_err();
    assert_eq!(error.code.unwrap().to_string(), "PL410");
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = format!("{}a{}", "(".repeat(65), ")".repeat(65));
    assert!(ConditionText::parse(&nested).is_err());
    assert!(ConditionText::parse(&"(".repeat(1_000_000)).is_err());
    assert!(ConditionText::parse(&"[".repeat(1_000_000)).is_err());
    assert!(Template::parse(&"{{ ".repeat(100_000)).is_err());
    assert!(ConditionText::parse(&format!("{} a", "! ".repeat(10_000))).is_ok());
    assert!(ConditionText::parse(&format!("{} a", "- ".repeat(10_000))).is_ok());
    let names = Fixed::new(json!({}));
    assert_eq!(names.holds(&format!("a{}", " or a".repeat(9_000))), json!(false));
    assert_eq!(names.holds(&format!("a{}", " or a".repeat(11_000))), json!("PL606"));
    assert_eq!(names.holds(&format!("1{} > 0", " + 1".repeat(4_000))), json!(true));
    let filters = format!("{{{{ a{} }}}}", " | default(a)".repeat(3_000));
    assert!(names.value(&filters).is_err());
    assert!(ConditionText::parse(&"a".repeat(70_000)).is_err());
    assert!(Template::parse(&format!("{{{{ a{} }}}}", ".a".repeat(40_000))).is_err());
}

#[test]
fn what_an_expression_takes_and_builds_is_bounded() {
    let names = Fixed::new(json!({"t": "ab".repeat(200)}));
    let limit = |template: &str| match names.value(template) {
        Err(Stop::Fault(fault)) => fault.code,
        other => panic!("{template}: {other:?}"),
    };
    let doubled = (0..40).fold("['x']".to_owned(), |list, _| format!("map({list}, x => [x, x])"));
    assert_eq!(limit(&format!("{{{{ {doubled} }}}}")), "PL606");
    let texts = (0..40)
        .fold("'xxxxxxxx'".to_owned(), |text, _| format!("replace({text}, 'x', 'xxxxxxxx')"));
    assert_eq!(limit(&format!("{{{{ {texts} }}}}")), "PL606");
    assert_eq!(limit("{{ range(0, 9000000) }}"), "PL606");
    assert_eq!(limit("{{ indent('a', 99999999999) }}"), "PL606");
    // Also where there is no line to put spaces before.
    assert_eq!(limit("{{ indent('', 9999999999999999999) }}"), "PL606");
    assert_eq!(limit("{{ '' | indent(9000000000000000000) }}"), "PL606");
    let cross = "count(range(0, 3000), 'any(range(0, 3000), \"value < 0\")')";
    assert_eq!(limit(&format!("{{{{ {cross} }}}}")), "PL606");
    assert_eq!(names.value("{{ count(range(0, 50000), '@ > 1 and @ < 9') }}"), Ok(json!(7)));
    assert_eq!(limit("{{ t matches '^(a|b|ab)*$(?<!b)' }}"), "PL606");
    // Calls of groups have no bound, and are no part of the syntax.
    for pattern in ["a\\\\g<0>?b", "(a)\\\\g<1>", "\\\\0\\\\g0e3\\\\g0e308"] {
        let refused = ConditionText::parse(&format!("matches('af12', '{pattern}')"));
        assert!(refused.is_err(), "{pattern}");
    }
}

#[test]
fn the_work_of_the_parser_is_linear() {
    for unit in [
        "a.b[0] + ",
        "a or not ",
        "(a) and ",
        "f ? ",
        "'x' + ",
        "any(l, 'x > 1') and ",
        "any((a, b",
        "[a, ",
        "{a: ",
        "! ",
        "- ",
        "any(l, (a, b) => a) or ",
        "not not_in ",
        "a ?? ",
        "{{ ",
        "((a,",
    ] {
        let read = |times: usize| tokens_read(&unit.repeat(times));
        let (short, long) = (read(100), read(1_000));
        assert!(long <= short * 11, "{unit}: {short} tokens, then {long}");
    }
}
