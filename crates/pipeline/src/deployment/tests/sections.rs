//! What sections of the document and of its mode say for steps.

use serde_json::{Value, json};

use super::{MODES, checked};
use crate::{
    Leniency, Pipeline,
    deployment::{Deployment, EnvironmentMode},
};

/// 1.6: the keys of the mode lie over those beside it; what `environment.…` reads is known at load.
#[test]
fn the_section_of_the_mode_lies_over_the_others() {
    let section = "  environment:\n    debug_level: basic\n    debug_config: {log_prompts: false, log_responses: false}\n    development: {debug_config: {log_execution_time: false}}\n    test: {allow_mock_providers: false, debug_config: {log_prompts: false, log_all_steps: false}}\n    production: {force_mock_providers: true}\n";
    for (mode, allows, forces, keys) in [
        (None, true, false, 3),
        (Some(EnvironmentMode::Development), true, false, 3),
        (Some(EnvironmentMode::Test), false, false, 3),
        (Some(EnvironmentMode::Production), false, true, 2),
    ] {
        let mut deployment = Deployment::default();
        if let Some(mode) = mode {
            deployment = deployment.environment(mode);
        }
        let pipeline = checked(section, &deployment, None).pipeline.unwrap();
        assert_eq!(
            (pipeline.allows_mocks(), pipeline.forces_mocks()),
            (allows, forces),
            "{mode:?}"
        );
        let facts = pipeline.model.deployed.facts();
        assert_eq!(facts["mode"], json!(mode.unwrap_or_default()));
        assert_eq!(facts["debug_config"].as_object().unwrap().len(), keys, "{mode:?}");
        assert!(EnvironmentMode::ALL.iter().all(|mode| facts.get(mode.name()).is_none()));
    }
    let plain = checked("", &Deployment::default(), None).pipeline.unwrap();
    assert_eq!(
        plain.model.deployed.facts(),
        json!({"mode": "development", "debug_level": "basic"})
    );
    assert!(plain.model.deployed.is_default());
}

/// Steps, sections and modes that say one thing: the step, its name, `defaults`, the section, the mode.
#[test]
fn sections_speak_for_steps_on_which_everything_stronger_is_silent() {
    const SECTIONS: &str = "  performance: {step_timeout_default: 11, api_timeout: 12, file_operation_timeout: 13}\n  token_management: {default_max_tokens: 14}\n  models: {claude: {default: cd, by_task: {named: cn}}, gemini: {default: gd, by_task: {gem: gn}}}\n";
    const STEPS: &str = "  steps:\n    - {name: c, type: claude, prompt: x}\n    - {name: named, type: claude, prompt: x}\n    - {name: own, type: claude, prompt: x, timeout_seconds: 1, claude_options: {model: o, timeout_ms: 2000, max_tokens: 3}}\n    - {name: g, type: gemini, prompt: x}\n    - {name: gem, type: gemini, prompt: x}\n    - {name: f, type: file_ops, operation: list, path: \".\"}\n    - {name: e, type: echo}\n";
    const DEFAULTS: &str = "  defaults: {timeout_seconds: 21, claude_model: dc, gemini_model: dg, claude_options: {timeout_ms: 22000, max_tokens: 24}, gemini_token_budget: {max_output_tokens: 25}}\n";
    let told = |sections: &str, mode: Option<EnvironmentMode>| {
        let document = format!("workflow:\n  name: x\n  language: 1\n{sections}{STEPS}");
        let deployment =
            mode.map_or_else(Deployment::default, |mode| Deployment::default().environment(mode));
        let checked = Pipeline::check_deployed(
            "flow.yaml",
            document.as_bytes(),
            &Leniency::as_written(),
            &deployment,
        );
        assert_eq!(checked.count(crate::Severity::Error), 0, "{:?}", checked.diagnostics);
        let shown = checked.pipeline.unwrap().resolved();
        let steps = shown["definition"]["steps"].as_array().unwrap().clone();
        let each = |step: &Value| {
            let options = &step["kind"]["chat"]["options"];
            json!([
                step["within_ms"],
                options["model"],
                options["call_within_ms"],
                options["max_output"]
            ])
        };
        Value::Array(steps.iter().map(each).collect())
    };
    const GEMINI: &str = "gemini-2.5-flash-lite-preview-06-17";
    let own = json!([1000, "o", 2000, 3]);
    let nothing = json!([null, null, null, null]);
    assert_eq!(
        told("", None),
        json!([
            nothing,
            nothing,
            own,
            [null, GEMINI, null, null],
            [null, GEMINI, null, null],
            nothing,
            nothing
        ])
    );
    assert_eq!(
        told("", Some(EnvironmentMode::Test)),
        json!([
            nothing,
            nothing,
            own,
            [null, GEMINI, 30_000, null],
            [null, GEMINI, 30_000, null],
            nothing,
            nothing
        ])
    );
    let sections = json!([
        [11_000, "cd", 12_000, 14],
        [11_000, "cn", 12_000, 14],
        own,
        [11_000, "gd", 12_000, 14],
        [11_000, "gn", 12_000, 14],
        [13_000, null, null, null],
        [11_000, null, null, null],
    ]);
    assert_eq!(told(SECTIONS, None), sections);
    assert_eq!(told(SECTIONS, Some(EnvironmentMode::Production)), sections);
    assert_eq!(
        told(&[SECTIONS, DEFAULTS].concat(), None),
        json!([
            [21_000, "dc", 22_000, 24],
            [21_000, "cn", 22_000, 24],
            own,
            [21_000, "dg", 12_000, 25],
            [21_000, "gn", 12_000, 25],
            [21_000, null, null, null],
            [21_000, null, null, null],
        ])
    );
}

/// 1.4, 1.11: what else the mode decides, and what the document says instead.
#[test]
fn the_mode_decides_exports_and_what_becomes_of_a_fresh_workspace() {
    let child = "  steps: [{name: n, type: pipeline, config: {workspace_enabled: true}, pipeline: {name: c, steps: [{name: a, type: echo}]}}]\n";
    for mode in MODES {
        for (key, said) in [
            ("", None),
            ("  checkpoint_enabled: false\n", Some(false)),
            ("  checkpoint_enabled: true\n", Some(true)),
        ] {
            let section =
                mode.map_or(String::new(), |mode| format!("  environment: {{mode: {mode}}}\n"));
            let document = format!("workflow:\n  name: x\n{section}{key}{child}");
            let checked = Pipeline::check("flow.yaml", document.as_bytes());
            let pipeline = checked.pipeline.unwrap();
            let usual = mode == Some(EnvironmentMode::Production);
            assert_eq!(pipeline.exports().is_some(), said.unwrap_or(usual), "{mode:?} {key}");
            let step = &pipeline.resolved()["definition"]["steps"][0]["kind"]["pipeline"];
            let goes = mode != Some(EnvironmentMode::Test);
            assert_eq!(step["workspace"]["scratch"]["after_error"], goes, "{mode:?}");
            assert!(
                step["child"]["files"]["exports"].is_null() && step["child"]["deployed"].is_null()
            );
        }
    }
}
