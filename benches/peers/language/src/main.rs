//! Templates and conditions next to minijinja on the same text and values, and the loading of long
//! documents next to that of short ones.

#[path = "../../src/measure.rs"]
#[expect(dead_code, reason = "no line here is about crowds")]
mod measure;

use std::{fmt::Write, hint::black_box, sync::Arc};

use measure::{Counting, Goal, Line, Meter, Wanted, on_a_worker};
use minijinja::Environment;
use perennial_pipeline::{Formula, Pipeline};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let wanted = Wanted::from_args();
    on_a_worker(async move {
        let names = Arc::new(names());
        for text in TEXTS {
            evaluation(&wanted, text, &names).await;
        }
        loading(&wanted).await;
    });
}

/// One text that both understand alike.
#[derive(Clone, Copy)]
struct Text {
    name: &'static str,
    text: &'static str,
    /// Whether it is a condition, which minijinja calls an expression.
    condition: bool,
}

const TEXTS: [Text; 4] = [
    Text {
        name: "prompt",
        text: "You review {{ file.name }} of {{ project }}.\n\
               It has {{ file.lines }} lines, and {{ author.first }} {{ author.last }} wrote it \
               for {{ project | upper }}.\n\nRules:\n- be brief\n- name the line\n\n\
               Score so far: {{ scores[0] + scores[1] * 2 }}. Last words: {{ notes[-1] }}\n",
        condition: false,
    },
    Text { name: "one_hole", text: "{{ file.name }}", condition: false },
    Text {
        name: "condition",
        text: "file.lines > 100 and project == 'perennial' and not (author.first == 'Bob')",
        condition: true,
    },
    Text { name: "arithmetic", text: "(scores[0] + scores[1]) * 2 - 3 > 4 * 5", condition: true },
];

fn names() -> Value {
    json!({
        "file": { "name": "src/main.rs", "lines": 412 },
        "project": "perennial",
        "author": { "first": "Ada", "last": "Lovelace" },
        "scores": [7, 9, 4],
        "notes": ["fine", "check the bounds", "ship it"],
    })
}

/// Each side reads its text once and evaluates it often, on values that were converted before, as
/// a loop of a run does; and each reads and evaluates it once, as most steps do.
async fn evaluation(wanted: &Wanted, text: Text, names: &Arc<Value>) {
    let line = |phase: &str| -> &'static str { format!("{phase}_{}", text.name).leak() };
    let (again, once) = (line("again"), line("once"));
    assert_eq!(ours(&text).value(names).expect("it has a value").value, theirs_once(&text, names));
    let count = wanted.size(100_000);
    if wanted.wants(again) {
        let (left, right) = (names.clone(), names.clone());
        Line::new(again, "ns", Goal::None)
            .subject("perennial", move || {
                let names = left.clone();
                async move {
                    let formula = ours(&text);
                    let meter = Meter::start();
                    for _ in 0..count {
                        black_box(formula.value(black_box(&names)).expect("it has a value"));
                    }
                    meter.per(count)
                }
            })
            .subject("minijinja", move || {
                let names = right.clone();
                async move { theirs(&text, &names, count) }
            })
            .run()
            .await;
    }
    let count = count / 10;
    if wanted.wants(once) {
        let (left, right) = (names.clone(), names.clone());
        Line::new(once, "ns", Goal::None)
            .subject("perennial", move || {
                let names = left.clone();
                async move {
                    let meter = Meter::start();
                    for _ in 0..count {
                        black_box(ours(&text).value(black_box(&names)).expect("it has a value"));
                    }
                    meter.per(count)
                }
            })
            .subject("minijinja", move || {
                let names = right.clone();
                async move {
                    let meter = Meter::start();
                    for _ in 0..count {
                        black_box(theirs_once(&text, black_box(&names)));
                    }
                    meter.per(count)
                }
            })
            .run()
            .await;
    }
}

fn ours(text: &Text) -> Formula {
    let read = if text.condition { Formula::condition } else { Formula::template };
    read(text.text).expect("it is one")
}

/// Nanoseconds of one evaluation of a text that was read before.
fn theirs(text: &Text, names: &Value, count: usize) -> f64 {
    let environment = environment();
    let values = minijinja::Value::from_serialize(names);
    if text.condition {
        let expression = environment.compile_expression(text.text).expect("it is one");
        let meter = Meter::start();
        for _ in 0..count {
            black_box(expression.eval(black_box(&values)).expect("it has a value"));
        }
        return meter.per(count);
    }
    let template = environment.template_from_str(text.text).expect("it is one");
    let meter = Meter::start();
    for _ in 0..count {
        black_box(template.render(black_box(&values)).expect("it has a value"));
    }
    meter.per(count)
}

/// Reads and evaluates the text; JSON values become its own ones, as a host's values have to.
fn theirs_once(text: &Text, names: &Value) -> Value {
    let environment = environment();
    let values = minijinja::Value::from_serialize(names);
    if text.condition {
        let expression = environment.compile_expression(text.text).expect("it is one");
        return expression.eval(&values).expect("it has a value").is_true().into();
    }
    environment.render_str(text.text, &values).expect("it has a value").into()
}

/// Ends of lines stay, and what is missing is an error, as in our language.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_keep_trailing_newline(true);
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment
}

/// Nanoseconds of a line: a document of ten times the lines should not cost more for each.
async fn loading(wanted: &Wanted) {
    if !wanted.wants("load_5000") {
        return;
    }
    let (long, short) = (document(5_000), document(500));
    Line::new("load_5000", "ns/line", Goal::AtMost(1.3))
        .subject("of 5 000 lines", move || load(long.clone(), 4))
        .subject("of 500 lines", move || load(short.clone(), 40))
        .run()
        .await;
}

async fn load(document: Arc<str>, times: usize) -> f64 {
    let meter = Meter::start();
    for _ in 0..times {
        let checked = Pipeline::check("long.yaml", document.as_bytes());
        assert!(checked.pipeline.is_some(), "{:?}", checked.diagnostics.first());
        black_box(checked);
    }
    meter.per(times * document.lines().count())
}

/// A workflow of about `lines` lines: every step reads the one before it.
fn document(lines: usize) -> Arc<str> {
    let mut text = String::from("workflow:\n  name: long\n  steps:\n");
    text.push_str("    - name: s0\n      type: echo\n      value: 0\n");
    for step in 1..lines / 10 {
        let before = step - 1;
        write!(
            text,
            "    - name: s{step}\n      type: claude\n      condition: \"steps.s{before} != null\"\n      \
             claude_options:\n        model: sonnet\n      prompt:\n        - type: static\n          \
             content: \"Go on from {{{{ steps.s{before} }}}}\"\n        - type: previous_response\n          \
             step: s{before}\n"
        )
        .expect("a string takes everything");
    }
    text.into()
}
