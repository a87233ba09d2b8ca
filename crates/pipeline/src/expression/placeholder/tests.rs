use serde_json::json;

use super::*;

/// No names but the variables.
struct Nothing;

impl Names for Nothing {
    fn find(&self, path: &Path, _: Place) -> Result<Cow<'_, Value>, Missing> {
        Err(Missing { path: path.to_string(), available: None })
    }

    fn uuid(&self) -> String {
        String::new()
    }

    fn now(&self) -> String {
        String::new()
    }

    fn warn(&self, _: String) {}

    fn undecided(&self) -> Undecided {
        Undecided::Legacy
    }
}

fn filled(source: &str, holes: bool) -> Result<Filled, FillError> {
    let variables = json!({
        "NAME": "v", "N": 3, "O": {"k": [1]}, "EVIL": "{NAME}{if true}{{ N }}", "E": "", "Z": null,
    });
    fill(source, variables.as_object().unwrap(), holes, &Nothing, 10_000)
}

#[test]
fn placeholders_and_blocks_are_filled_in() {
    for (source, holes, expected) in [
        ("", false, ""),
        ("a {NAME}{N} {O} {E}{Z}.", false, "a v3 {\"k\":[1]} ."),
        ("{EVIL}", true, "{NAME}{if true}{{ N }}"),
        ("{ NAME } {NAME {} {1} {a-b} {", false, "{ NAME } {NAME {} {1} {a-b} {"),
        ("{{NAME}} {{ N }}", false, "{{NAME}} {{ N }}"),
        ("{{NAME}} {{ N + 1 }} \\{{ N }} {{ {a: {b: 1}}.a.b }}", true, "v 4 {{ N }} 1"),
        ("{if NAME == \"v\"}yes{else}no{endif}", false, "yes"),
        ("{if NAME == 'w'}yes{else}no{endif}!", false, "no!"),
        ("{if N > 5}yes{endif}!", false, "!"),
        ("{if nope == 1}yes{else}no{endif}", false, "no"),
        ("{if not (O.k contains 2) and N between 1 and 3}{N}{endif}", false, "3"),
        ("{if true}{if false}a{else}b{endif}{else}{if true}c{endif}{endif}d", false, "bd"),
        ("{if false}{if true}a{else}b{endif}{NOPE}{{ bad }}{else}c{endif}", true, "c"),
        ("{if NAME == '}'}a{else}b{endif}", false, "b"),
        ("{if {a: 1}.a == 1}a{endif}}", false, "a}"),
        ("a {if x\n{NAME}", false, "a {if x\nv"),
        ("{iffy} {elsewhere} {elif}", false, "{iffy} {elsewhere} {elif}"),
        ("line\r\n{NAME}\n", false, "line\r\nv\n"),
        ("ü{NAME}ü{ÄÖ}", false, "üvü{ÄÖ}"),
    ] {
        assert_eq!(
            filled(source, holes).map(|filled| filled.text),
            Ok(expected.to_owned()),
            "{source}"
        );
    }
    let unknown = filled("{A} {B_1} {A} {1} {NAME} {if x\n{} {endi}", false).unwrap().unknown;
    assert_eq!(unknown, ["A", "B_1", "endi"]);
}

#[test]
fn what_is_malformed_is_said_with_its_line() {
    for (source, holes, line, words) in [
        ("\n{if }x{endif}", false, 2, "a value is missing"),
        ("{if NAME = 'v'}x{endif}", false, 1, "unknown operator `=`"),
        ("\n\n{if true}\nx", false, 3, "has no `{endif}`"),
        ("{if true}{else}\n{else}{endif}", false, 2, "a second `{else}`"),
        ("{endif}", false, 1, "closes no"),
        ("{else}", false, 1, "belongs to no"),
        ("{if true}{elif N}x{endif}", false, 1, "there is no `{elif}`"),
        ("{if true}{else if N}x{endif}", false, 1, "there is no `{elif}`"),
        ("x\n{{ }}", true, 2, "a value is missing"),
        (&"{if true}".repeat(65), false, 1, "64 levels"),
    ] {
        let error = filled(source, holes).unwrap_err();
        assert_eq!(error.line, line, "{source}");
        let Unfilled::Syntax(text) = error.why else { panic!("{source}: {:?}", error.why) };
        assert!(text.contains(words), "{source}: {text}");
    }
    let long = filled(&"{NAME}{O}".repeat(2_000), false).unwrap_err();
    assert_eq!(long.why, Unfilled::TooLong(10_000));
    assert!(matches!(filled("{{ nope }}", true).unwrap_err().why, Unfilled::Stop(_)));
}

/// What a hostile file takes grows with its length, not with its square: seconds for all of these,
/// where a single one would take many minutes.
#[test]
fn hostile_files_are_filled_in_linear_time() {
    let bytes = 1 << 20;
    for unit in [
        "{if ",
        "{if {",
        "{if (",
        "{if '",
        "{if \"",
        "{if [",
        "{if a or ",
        "{if a}",
        "{if a}{else}",
        "{",
        "{{",
        "{{{",
        "{a",
        "{a}",
        "}",
        "{else}",
        "{endif}",
        "{if a}{endif}",
        "{if x\n",
        "{NAME}",
        "{{ N }}",
        "{{ N",
        "{if '\\'",
        "{if {a:",
        "\\{{",
        "{if a ? ",
        "{if -",
        "{if not ",
    ] {
        for tail in ["", "}"] {
            for holes in [false, true] {
                let source = unit.repeat(bytes / unit.len()) + tail;
                drop(fill(&source, &Map::new(), holes, &Nothing, usize::MAX));
            }
        }
    }
}
