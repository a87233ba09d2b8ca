//! The tools, by the analyzer that has them.

use std::time::Duration;

/// A service that has tools.
#[derive(Debug)]
pub(crate) struct Analyzer {
    pub(crate) name: &'static str,
    pub(crate) tools: &'static [&'static str],
    /// It looks at the app as it runs; else at its code.
    pub(crate) needs_app: bool,
    /// Longer it does not take.
    pub(crate) within: Duration,
}

pub(crate) const ANALYZERS: [Analyzer; 4] = [
    Analyzer {
        name: "static",
        tools: &[
            "bandit",
            "pylint",
            "ruff",
            "mypy",
            "vulture",
            "radon",
            "safety",
            "semgrep",
            "eslint",
            "stylelint",
            "htmlhint",
            "jshint",
            "detect-secrets",
            "npm-audit",
        ],
        needs_app: false,
        within: Duration::from_secs(720),
    },
    Analyzer {
        name: "dynamic",
        tools: &["zap", "curl", "nmap", "curl-endpoint-tester"],
        needs_app: true,
        within: Duration::from_secs(600),
    },
    Analyzer {
        name: "performance",
        tools: &["locust", "ab", "aiohttp", "artillery"],
        needs_app: true,
        within: Duration::from_secs(300),
    },
    Analyzer {
        name: "ai",
        tools: &["requirements", "code-quality"],
        needs_app: true,
        within: Duration::from_secs(600),
    },
];

/// Some of what was asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Tools of one analyzer.
    Known(&'static Analyzer, Vec<&'static str>),
    /// Nobody has it.
    Unknown(String),
}

/// The analyzers that have `tools`, and what none has. No tool at all is every one.
pub(super) fn by_analyzer(tools: &[String]) -> Vec<Asked> {
    let wanted = |tool: &&'static str| tools.is_empty() || tools.iter().any(|it| it == tool);
    let known = ANALYZERS.iter().map(|analyzer| {
        let tools = analyzer.tools.iter().copied().filter(|tool| wanted(tool)).collect();
        Asked::Known(analyzer, tools)
    });
    let is_known = |tool: &&String| ANALYZERS.iter().any(|it| it.tools.contains(&tool.as_str()));
    let unknown = tools.iter().filter(|tool| !is_known(tool));
    let asked = known.chain(unknown.map(|tool| Asked::Unknown(tool.clone())));
    asked.filter(|it| !matches!(it, Asked::Known(_, tools) if tools.is_empty())).collect()
}
