use serde_json::{Value, json};

use super::*;

fn told(schema: &Value, value: &Value) -> Vec<String> {
    let found = violations(schema, value).unwrap_or_else(|error| panic!("{schema}: {error}"));
    found.iter().map(ToString::to_string).collect()
}

/// C-199, YR-68: each keyword in its words.
#[test]
fn every_keyword_has_its_words() {
    let rows = [
        (
            json!({"required": ["a", "b"]}),
            json!({"a": 1}),
            "(root): Required property 'b' is missing",
        ),
        (
            json!({"properties": {"a": {}}, "additionalProperties": false}),
            json!({"a": 1, "b": 2}),
            "(root): Additional property 'b' is not allowed",
        ),
        (
            json!({"properties": {"a": {}}, "unevaluatedProperties": false}),
            json!({"b": 2}),
            "(root): Additional property 'b' is not allowed",
        ),
        (json!({"type": "string"}), json!(1), "(root): Expected string, got integer"),
        (json!({"type": "object"}), json!([1]), "(root): Expected object, got array"),
        (
            json!({"type": ["string", "null"]}),
            json!(1.5),
            "(root): Expected string or null, got number",
        ),
        (json!({"minItems": 2}), json!([1]), "(root): Array must have at least 2 items"),
        (json!({"maxItems": 1}), json!([1, 2]), "(root): Array must have at most 1 items"),
        (json!({"minLength": 3}), json!("é"), "(root): String must be at least 3 characters long"),
        (json!({"maxLength": 1}), json!("éé"), "(root): String must be at most 1 characters long"),
        (
            json!({"pattern": "^[A-Z]+$"}),
            json!("a"),
            "(root): String does not match pattern: ^[A-Z]+$",
        ),
        (json!({"enum": ["a", 1, null]}), json!("b"), "(root): Value must be one of: a, 1, null"),
        (json!({"const": "a"}), json!("b"), "(root): Value must be one of: a"),
        (json!({"minimum": 0}), json!(-1), "(root): Value must be >= 0"),
        (json!({"maximum": 10}), json!(11), "(root): Value must be <= 10"),
        (json!({"exclusiveMinimum": 0.5}), json!(0.5), "(root): Value must be > 0.5"),
        (json!({"exclusiveMaximum": 1}), json!(1), "(root): Value must be < 1"),
        (json!({"multipleOf": 3}), json!(4), "(root): Value must be a multiple of 3"),
        (json!({"minProperties": 1}), json!({}), "(root): Object must have at least 1 properties"),
        (
            json!({"maxProperties": 0}),
            json!({"a": 1}),
            "(root): Object must have at most 0 properties",
        ),
        (json!({"uniqueItems": true}), json!([1, 1]), "(root): Array must have no item twice"),
        (
            json!({"contains": {"const": 1}}),
            json!([2]),
            "(root): Array has too few or too many items as in `contains`",
        ),
        (
            json!({"propertyNames": {"maxLength": 1}}),
            json!({"long": 1}),
            "(root): Property name 'long' is not allowed: String must be at most 1 characters long",
        ),
        (
            json!({"dependentRequired": {"a": ["b"]}}),
            json!({"a": 1}),
            "(root): Required property 'b' is missing",
        ),
        (json!({"properties": {"a": false}}), json!({"a": 1}), "a: Value is not allowed"),
        (json!({"not": {"type": "string"}}), json!("a"), "(root): Value must not be as in `not`"),
        (
            json!({"if": {"const": 1}, "then": {"const": 2}}),
            json!(1),
            "(root): Value must be one of: 2",
        ),
        (
            json!({"prefixItems": [{"type": "string"}]}),
            json!([1]),
            "[0]: Expected string, got integer",
        ),
        (
            json!({"anyOf": [{"type": "null"}, {"type": "object", "required": ["a"]}]}),
            json!({}),
            "(root): Required property 'a' is missing",
        ),
        (
            json!({"anyOf": [{"const": 1}, {"const": 2}]}),
            json!(3),
            "(root): Value is none of what is allowed",
        ),
        (
            json!({"oneOf": [{"minimum": 1}, {"minimum": 2}]}),
            json!(3),
            "(root): Value is more than one of what `oneOf` allows",
        ),
    ];
    for (schema, value, text) in rows {
        assert_eq!(told(&schema, &value), [text], "{schema} {value}");
    }
}

/// C-199: all violations at once, with paths such as `user.emails[0]`, in the order of the value.
#[test]
fn all_violations_are_told_at_once_with_their_paths() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "user": {
                "type": "object",
                "properties": {
                    "emails": {"type": "array", "items": {"type": "string", "format": "email"}},
                    "a/b~c": {"type": "null"},
                    "10": {"type": "null"},
                },
            },
        },
    });
    let value = json!({"user": {"emails": ["nobody", 7, "a@b.example"], "a/b~c": 1, "10": true}});
    let found = violations(&schema, &value).unwrap();
    assert_eq!(
        report("check", &found),
        "Schema validation failed for step 'check' (5 errors):\n\
         1. (root): Required property 'id' is missing\n\
         2. user.10: Expected null, got boolean\n\
         3. user.a/b~c: Expected null, got integer\n\
         4. user.emails[0]: String is no valid email\n\
         5. user.emails[1]: Expected string, got integer"
    );
    assert!(
        report("check", &found[..1])
            .starts_with("Schema validation failed for step 'check' (1 error):\n")
    );
    let many = vec![found[0].clone(); 203];
    assert!(report("x", &many).ends_with("\n… and 3 more"));
}

/// YR-68: what is written with a fraction is no integer, in whatever place of a schema.
#[test]
fn an_integer_is_written_without_a_fraction() {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for schema in [
        json!({"type": "integer"}),
        json!({"type": ["null", "integer"]}),
        json!({"anyOf": [{"type": "integer"}]}),
        json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}),
    ] {
        for (text, is_integer) in [
            ("1", true),
            ("-7", true),
            ("1.0", false),
            ("1.5", false),
            ("\"1\"", false),
            ("18446744073709551615", true),
        ] {
            let found = violations(&schema, &value(text)).unwrap();
            assert_eq!(found.is_empty(), is_integer, "{schema} {text} {found:?}");
        }
    }
    assert_eq!(told(&json!({"type": "number"}), &json!(1)), Vec::<String>::new());
    let items = json!({"items": {"type": "integer"}, "type": "array", "minItems": 1});
    assert_eq!(told(&items, &value("[1.0]")), ["[0]: Expected integer, got number"]);
}

/// YR-66: five formats are asserted, all others say nothing.
#[test]
fn five_formats_are_asserted() {
    let asserted = [
        ("date-time", "2026-11-21T00:33:57Z", "2026-11-21"),
        ("date", "2026-11-21", "21.11.2026"),
        ("email", "a@b.example", "nobody"),
        ("uri", "https://example.com/a", "not a uri"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
    ];
    for (format, right, wrong) in asserted {
        let schema = json!({ "format": format });
        assert_eq!(told(&schema, &json!(right)), Vec::<String>::new());
        assert_eq!(told(&schema, &json!(wrong)), [format!("(root): String is no valid {format}")]);
        assert_eq!(told(&schema, &json!(7)), Vec::<String>::new());
    }
    for format in UNASSERTED.into_iter().chain(["made-up"]) {
        assert_eq!(
            told(&json!({ "format": format }), &json!("%% \u{0}")),
            Vec::<String>::new(),
            "{format}"
        );
    }
}

/// C-201, YR-66.
#[test]
fn c_201_what_tells_of_the_step_is_taken_away_and_values_are_unwrapped() {
    for (record, value) in [
        (json!({"success": true, "cost": 1, "usage": {}, "a": 1}), json!({"a": 1})),
        (json!({"status": "completed", "duration": 3, "timestamp": "t", "b": 2}), json!({"b": 2})),
        (json!({"success": true, "data": {"a": 1}, "text": "t"}), json!({"a": 1})),
        (json!({"content": "c", "text": "t"}), json!("c")),
        (json!({"response": [1], "text": "t"}), json!("t")),
        (json!({"response": [1]}), json!([1])),
        (json!({"data": null, "text": "t"}), Value::Null),
        (json!({"a": 1}), json!({"a": 1})),
        (json!([1]), json!([1])),
        (json!("x"), json!("x")),
    ] {
        assert_eq!(*subject(&record), value, "{record}");
    }
}

#[test]
fn everything_that_is_wrong_with_a_schema_is_told_with_its_place() {
    let schema = json!({
        "type": "objekt",
        "required": "a",
        "properties": {
            "a": {"type": ["string", 7], "minLength": -1},
            "b": {"pattern": "(", "items": [1]},
            "c": {"$ref": "#/$defs/zz"},
            "d": 7,
        },
        "patternProperties": {"[": {}},
        "allOf": [{"properties": {"x": {"pattern": "a{2,1}"}}}],
    });
    let found: Vec<String> =
        faults(&schema).iter().map(|fault| format!("{} {}", fault.code, fault.shown())).collect();
    assert_eq!(
        found,
        [
            "406 allOf[0].properties.x.pattern: Invalid regex pattern: a{2,1}",
            "406 patternProperties.[: Invalid regex pattern: [",
            "205 properties.a.minLength: Value must be >= 0",
            "204 properties.a.type[1]: Value must be one of: array, boolean, integer, null, number, object, string",
            "203 properties.b.items: Expected boolean or object, got array",
            "406 properties.b.pattern: Invalid regex pattern: (",
            "313 properties.c.$ref: `$ref` leads nowhere in this schema: #/$defs/zz",
            "203 properties.d: Expected boolean or object, got integer",
            "203 required: Expected array, got string",
            "204 type: Value must be one of: array, boolean, integer, null, number, object, string",
        ]
    );
    assert!(violations(&schema, &Value::Null).is_err());
    for sound in [json!({}), json!({"$ref": "#"}), json!({"$defs": {"a": {}}, "$ref": "#/$defs/a"})]
    {
        assert_eq!(faults(&sound), Vec::new(), "{sound}");
    }
}

#[test]
fn a_reference_elsewhere_is_never_followed() {
    for address in ["https://example.com/schema.json", "file:///etc/passwd", "other.json", "#name"]
    {
        let schema = json!({ "$ref": address });
        assert_eq!(faults(&schema).len(), 1, "{address}");
    }
}

/// A schema that describes itself ends.
#[test]
fn a_schema_may_refer_to_itself() {
    let list = json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["n"]});
    assert_eq!(
        told(&list, &json!({"n": 1, "next": {"next": {"n": 1}}})),
        ["next: Required property 'n' is missing"]
    );
    assert_eq!(told(&json!({"$ref": "#"}), &json!(1)), Vec::<String>::new());
    let round = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
    assert!(Closed::of(&round).spot().only().is_none());
    assert_eq!(told(&round, &json!(1)), Vec::<String>::new());
}

/// YR-69.
#[test]
fn ready_made_schemas_are_closed_and_say_what_they_say() {
    for name in NAMES {
        let schema = ready_made(name).unwrap();
        assert_eq!(faults(&schema), Vec::new(), "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
    }
    assert_eq!(ready_made("analysis"), None);
    let rows = [
        (
            "analysis_result",
            json!({"analysis": "long enough", "score": 10, "confidence": 0.5}),
            &[][..],
        ),
        (
            "analysis_result",
            json!({
                "analysis": "short", "score": 11, "summary": "s".repeat(501), "confidence": 2, "more": 1,
                "recommendations": [{"priority": "urgent", "action": "act"}],
            }),
            &[
                "(root): Additional property 'more' is not allowed",
                "analysis: String must be at least 10 characters long",
                "confidence: Value must be <= 1",
                "recommendations[0].action: String must be at least 5 characters long",
                "recommendations[0].priority: Value must be one of: high, medium, low",
                "score: Value must be <= 10",
                "summary: String must be at most 500 characters long",
            ],
        ),
        (
            "code_analysis",
            json!({"files_analyzed": 1, "metrics": {}, "issues": [{"file": "a", "line": 0, "severity": "bad", "message": "m"}]}),
            &[
                "issues[0].line: Value must be >= 1",
                "issues[0].severity: Value must be one of: error, warning, info",
            ],
        ),
        (
            "test_results",
            json!({"total_tests": 2, "passed": 1, "status": "mixed"}),
            &[
                "(root): Required property 'failed' is missing",
                "status: Value must be one of: passed, failed, partial",
            ],
        ),
        (
            "api_response",
            json!({"status_code": 600, "success": "yes"}),
            &["status_code: Value must be <= 599", "success: Expected boolean, got string"],
        ),
        ("file_operation", json!({"operation": "list", "path": ".", "files": [], "count": 0}), &[]),
        (
            "documentation",
            json!({"sections": [{"title": "a", "content": "b"}], "total_pages": 3}),
            &[],
        ),
    ];
    for (name, value, expected) in rows {
        assert_eq!(told(&ready_made(name).unwrap(), &value), expected, "{name}");
    }
}
