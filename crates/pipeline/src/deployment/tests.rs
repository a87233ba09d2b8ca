//! The table, and who is stronger: every limit from every source, in every mode.

mod sections;

use serde_json::{Value, json};

use super::{limits::Said, *};
use crate::{
    Leniency, MemorySources, Pipeline, SourceFile,
    deployment::{InvalidDeployment, Limit},
};

/// Rows of 1.11 and 6.6, as the language states them: built in, development, test, production.
const TABLE: &str = "\
max_nesting_depth | 10 | 15 | 5 | 8
max_total_steps | 1000 | 2000 | 100 | 500
max_step_executions | 100000 | 100000 | 100000 | 100000
memory_limit_mb | 1024 | 2048 | 512 | 1024
nested_timeout_seconds | 300 | 600 | 30 | 300
max_execution_time_s | 86400 | 86400 | 86400 | 86400
gemini_call_ms | 300000 | 600000 | 30000 | 1800000
max_file_operations | - | - | - | 1000
scratch_workspace | false | false | false | false
cleanup_on_error | true | true | false | true
checkpoint_enabled | false | false | false | true
sandbox_mode | false | false | false | true";

const MODES: [Option<EnvironmentMode>; 4] = [
    None,
    Some(EnvironmentMode::Development),
    Some(EnvironmentMode::Test),
    Some(EnvironmentMode::Production),
];

fn of_mode(mode: Option<EnvironmentMode>) -> Deployed {
    Deployed { mode, ..Deployed::default() }
}

#[test]
fn each_mode_has_the_numbers_of_the_table() {
    let switches = [
        ("scratch_workspace", Switch::ScratchWorkspace),
        ("cleanup_on_error", Switch::CleanupOnError),
        ("checkpoint_enabled", Switch::CheckpointEnabled),
        ("sandbox_mode", Switch::SandboxMode),
    ];
    let mut seen = 0;
    for row in TABLE.lines() {
        let mut cells = row.split(" | ");
        let name = cells.next().unwrap();
        for (mode, cell) in MODES.into_iter().zip(cells) {
            seen += 1;
            let shown = match switches.iter().find(|(known, _)| *known == name) {
                Some((_, switch)) => of_mode(mode).switch(*switch).to_string(),
                None => {
                    let limit = Limit::ALL.into_iter().find(|limit| limit.name() == name).unwrap();
                    let usual = of_mode(mode).limit(limit);
                    usual.map_or("-".to_owned(), |value| value.to_string())
                }
            };
            assert_eq!(shown, cell, "{name} in {mode:?}");
        }
    }
    assert_eq!(seen, 4 * (Limit::ALL.len() + switches.len()));
    assert_eq!(Limit::ALL.map(Limit::name).to_vec(), rows());
}

fn rows() -> Vec<&'static str> {
    TABLE.lines().take(Limit::ALL.len()).map(|row| row.split(" | ").next().unwrap()).collect()
}

/// YF-48: the strongest source that speaks, and never more than is enforced.
#[test]
fn the_strongest_source_decides_and_nobody_passes_what_is_enforced() {
    let mut seen = 0;
    for bits in 0..16_u32 {
        // The configured value is the smallest, the largest, or between the others.
        for file in [5, 25, 45] {
            for enforced in [false, true] {
                let values = [10, 20, 30, file];
                let given = |place: usize| (bits >> place & 1 == 1).then_some(values[place]);
                let said = Said {
                    option: given(0),
                    document: given(1),
                    variable: given(2),
                    file: given(3),
                };
                let strongest = (0..4).find_map(given);
                let cap = given(3).filter(|_| enforced).unwrap_or(u64::MAX);
                let settled = settle(said, enforced);
                assert_eq!(settled.value(), strongest.map(|value| value.min(cap)), "{said:?}");
                let narrowed = matches!(settled, Settled::Narrowed { .. });
                assert_eq!(narrowed, strongest.is_some_and(|value| value > cap), "{said:?}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 96);
}

/// Who says something, in the order of their strength.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Option,
    Document,
    Variable,
    File,
}

const SOURCES: [Source; 4] = [Source::Option, Source::Document, Source::Variable, Source::File];

fn checked(
    sections: &str,
    deployment: &Deployment,
    variable: Option<(&str, &str)>,
) -> crate::Checked {
    let document = format!(
        "workflow:\n  name: x\n  language: 1\n{sections}  steps: [{{name: a, type: echo, value: \"{{{{ environment.mode }}}}\"}}]\n"
    );
    let mut sources = MemorySources::new();
    if let Some((name, value)) = variable {
        sources = sources.set(name, value);
    }
    let file = SourceFile::new("flow.yaml", document.as_bytes());
    Pipeline::load_deployed(&file, &sources, &Leniency::as_written(), deployment)
}

fn resolved(sections: &str, deployment: &Deployment, variable: Option<(&str, &str)>) -> Value {
    let checked = checked(sections, deployment, variable);
    assert_eq!(checked.count(crate::Severity::Error), 0, "{sections} {:?}", checked.diagnostics);
    checked.pipeline.unwrap().resolved()
}

/// Every limit that can be set × every set of sources × every mode × enforced or not, through a document.
#[test]
fn every_limit_comes_from_its_strongest_source_in_every_mode() {
    let mut seen = 0;
    for limit in Limit::SETTABLE {
        let name = limit.name();
        for (mode, bits) in
            MODES.into_iter().flat_map(|mode| (0..16_u32).map(move |bits| (mode, bits)))
        {
            for enforced in [false, true] {
                let says = |source: Source| bits >> (source as u32) & 1 == 1;
                if (says(Source::Variable) && limit.variable().is_none())
                    || (enforced && !says(Source::File))
                {
                    continue;
                }
                // The weaker, the smaller: what is enforced narrows all others.
                let value = |source: Source| 40 - 10 * (source as u64);
                let mut deployment = Deployment::default();
                let mut sections = String::new();
                if let Some(mode) = mode {
                    sections = format!("  environment: {{mode: {mode}}}\n");
                }
                if says(Source::Option) {
                    deployment = deployment.limit(name, "40").unwrap();
                }
                if says(Source::Document) {
                    sections += &format!("  resource_limits: {{{name}: 30}}\n");
                }
                if says(Source::File) {
                    deployment = deployment.configured_limit(name, 10).unwrap();
                }
                if enforced {
                    deployment = deployment.enforced(name).unwrap();
                }
                let variable = limit.variable().filter(|_| says(Source::Variable));
                let shown = resolved(&sections, &deployment, variable.map(|name| (name, "20")));
                let strongest = SOURCES.into_iter().find(|source| says(*source));
                let expected = match strongest {
                    Some(_) if enforced => Some(10),
                    Some(source) => Some(value(source)),
                    None => of_mode(mode).limit(limit),
                };
                let found = &shown["limits"][name];
                assert_eq!(*found, json!(expected), "{name} {mode:?} {bits:04b} {enforced}");
                seen += 1;
            }
        }
    }
    // Of each limit but one, 8 sets of sources, half of them with a file that may enforce; in 4 modes.
    assert_eq!(seen, 4 * (5 * (8 + 4) + (16 + 8)));
}

/// The mode: option over document over variable over file; without any, the built-in column.
#[test]
fn the_mode_comes_from_its_strongest_source_and_is_part_of_the_definition() {
    use EnvironmentMode::{Development, Production, Test};
    let mut digests = std::collections::HashMap::new();
    for bits in 0..16_u32 {
        let says = |source: Source| bits >> (source as u32) & 1 == 1;
        let modes = [Test, Production, Development, Test];
        let mut deployment = Deployment::default();
        if says(Source::Option) {
            deployment = deployment.environment(modes[0]);
        }
        if says(Source::File) {
            deployment = deployment.configured_environment(modes[3]);
        }
        let section =
            if says(Source::Document) { "  environment: {mode: production}\n" } else { "" };
        let variable = says(Source::Variable).then_some(("PERENNIAL_ENV", "development"));
        let shown = resolved(section, &deployment, variable);
        let strongest = SOURCES.into_iter().find(|source| says(*source));
        let mode = strongest.map(|source| modes[source as usize]);
        assert_eq!(shown["definition"]["deployed"]["mode"], json!(mode), "{bits:04b}");
        assert_eq!(
            shown["limits"]["max_total_steps"],
            json!(of_mode(mode).limit(Limit::MaxTotalSteps))
        );
        digests.entry((mode, section)).or_insert_with(Vec::new).push(shown["digest"].clone());
    }
    assert_eq!(digests.len(), 5);
    let mut all: Vec<Value> = Vec::new();
    for same in digests.into_values() {
        assert!(same.iter().all(|digest| *digest == same[0]), "{same:?}");
        assert!(!all.contains(&same[0]));
        all.push(same[0].clone());
    }
}

#[test]
fn what_is_said_twice_is_compared_and_what_is_narrowed_is_told() {
    let none = Deployment::default();
    for (sections, expected) in [
        ("  resource_limits: {max_depth: 3}\n", vec!["PL210"]),
        ("  safety_config: {max_total_steps: 3}\n", vec!["PL210"]),
        (
            "  resource_limits: {max_nesting_depth: 3}\n  safety: {max_nesting_depth: 4}\n",
            vec!["PL207"],
        ),
        ("  resource_limits: {max_nesting_depth: 3}\n  safety: {max_nesting_depth: 3}\n", vec![]),
        (
            "  max_execution_time: 2m\n  resource_limits: {max_execution_time_s: 60}\n",
            vec!["PL207"],
        ),
        ("  max_execution_time: 2m\n  resource_limits: {max_execution_time_s: 120}\n", vec![]),
        ("  max_execution_time: 2m\n  resource_limits: {timeout_seconds: 120}\n", vec!["PL210"]),
    ] {
        let found = checked(sections, &none, None).diagnostics;
        let found: Vec<String> = found.iter().map(|told| told.code.to_string()).collect();
        assert_eq!(found, expected, "{sections}");
    }
    let enforced = none.configured_limit("max_total_steps", 50).unwrap();
    let enforced = enforced.enforced("max_total_steps").unwrap();
    let asked = "  resource_limits: {max_total_steps: 60}\n";
    let told = checked(asked, &enforced, None).diagnostics;
    let places: Vec<(String, usize, &str)> = told
        .iter()
        .map(|told| (told.code.to_string(), told.span.unwrap().start.line, told.message.as_str()))
        .collect();
    assert_eq!(places, [("PL513".to_owned(), 4, "max_total_steps is 50 here, and not 60")]);
    // Who asks from outside is told as well.
    let louder = enforced.clone().limit("max_total_steps", "70").unwrap();
    assert_eq!(
        checked("", &louder, None).diagnostics[0].message,
        "max_total_steps is 50 here, and not 70"
    );
    assert!(
        checked("  resource_limits: {max_total_steps: 40}\n", &enforced, None)
            .diagnostics
            .is_empty()
    );
}

#[test]
fn what_the_environment_says_wrong_is_told_when_it_would_count() {
    let none = Deployment::default();
    for (variable, section, expected) in [
        (("PERENNIAL_ENV", "prod"), "", vec!["PL204"]),
        (("PERENNIAL_ENV", "prod"), "  environment: {mode: test}\n", vec![]),
        (("PERENNIAL_ENV", ""), "", vec![]),
        (("PIPELINE_TIMEOUT", "soon"), "", vec!["PL205"]),
        (("PIPELINE_TIMEOUT", "0"), "", vec!["PL205"]),
        (("PIPELINE_TIMEOUT", "soon"), "  max_execution_time: 5\n", vec![]),
    ] {
        let found = checked(section, &none, Some(variable)).diagnostics;
        let found: Vec<String> = found.iter().map(|told| told.code.to_string()).collect();
        assert_eq!(found, expected, "{variable:?} {section}");
    }
    let half = resolved("", &none, Some(("PIPELINE_TIMEOUT", "90s")));
    assert_eq!(half["limits"]["max_execution_time_s"], 90);
    let half = resolved("  max_execution_time: 1500ms\n", &none, None);
    assert_eq!(half["limits"]["max_execution_time_s"], 1.5);
}

#[test]
fn limits_that_cannot_be_meant_are_refused_with_their_names() {
    let none = Deployment::default();
    for limit in Limit::ALL {
        let set = none.clone().limit(limit.name(), "1");
        assert_eq!(set.is_ok(), Limit::SETTABLE.contains(&limit), "{limit:?}");
        for value in ["0", "-1", "many", "1.5", ""] {
            assert!(none.clone().limit(limit.name(), value).is_err(), "{limit:?} {value}");
        }
        if Limit::SETTABLE.contains(&limit) {
            let most = limit.most();
            assert!(none.clone().configured_limit(limit.name(), most).is_ok());
            assert!(none.clone().configured_limit(limit.name(), most + 1).is_err());
            let refused = none.clone().enforced(limit.name());
            assert_eq!(refused, Err(InvalidDeployment::Enforced { name: limit.name() }));
        }
    }
    let error = none.clone().limit("max_depht", "1").unwrap_err().to_string();
    assert!(
        error.contains("unknown limit `max_depht`") && error.contains("max_total_steps"),
        "{error}"
    );
    assert!(none.clone().limit("max_execution_time_s", "5m").is_ok());
    assert!(none.limit("max_total_steps", "5m").is_err());
}

/// A host's own settings are stronger than its configuration, and do not pass what that enforces.
#[test]
fn two_deployments_are_one_over_the_other() {
    let weaker = Deployment::default().environment(EnvironmentMode::Test);
    let weaker = weaker.configured_limit("max_total_steps", 5).unwrap();
    let weaker = weaker.enforced("max_total_steps").unwrap();
    let over = Deployment::default().environment(EnvironmentMode::Production);
    let over = over.configured_limit("max_total_steps", 9).unwrap().over(&weaker);
    let shown = resolved("", &over, None);
    assert_eq!(shown["definition"]["deployed"]["mode"], "production");
    assert_eq!(shown["limits"]["max_total_steps"], 5);
    let pipeline =
        checked("  resource_limits: {max_total_steps: 8}\n", &Deployment::default(), None);
    let pipeline = pipeline.pipeline.unwrap();
    let narrowed = pipeline.clone().within_enforced(&over);
    assert_eq!(narrowed.resolved()["limits"]["max_total_steps"], 5);
    assert_eq!(narrowed.clone().within_enforced(&over), narrowed);
    assert_eq!(pipeline.clone().within_enforced(&Deployment::default()), pipeline);
}
