//! What is wrong with a configuration, each with the line that it is about.

use std::path::PathBuf;

use perennial_core::service::TermsFault;
use perennial_engine::{
    SettingError,
    external::{ServiceDefaults, ServiceFault},
};
use perennial_pipeline::InvalidDeployment;

use crate::runtime::{InvalidStoreUrl, LimitError};

/// As many keys are named where none is near.
const NAMED_MAX: usize = 12;

/// A configuration that cannot be used. Lines count from 1; there is none where the key is not set and what is usual does not go with
/// what is.
///
/// ```
/// # use perennial::{Config, ConfigError};
/// let refused = Config::parse("perennial.toml", b"[limits]\nruns = \"many\"\n");
/// let Err(error @ ConfigError::Malformed { .. }) = refused else { panic!("it is no number") };
/// assert!(error.to_string().starts_with("configuration perennial.toml: TOML parse error at line 2"));
///
/// let refused = Config::parse("perennial.toml", b"[engine]\naging = \"0s\"\n").unwrap_err();
/// assert!(refused.to_string().starts_with("configuration perennial.toml, line 2: [engine] `aging` is 0s; 1ms to "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML, or says something in a way in which it cannot be said.
    #[error("configuration {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// It has a key that this version does not know.
    #[error("configuration {}, line {line}: {}", path.display(), unknown(table, key, near.as_deref(), known))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// The section that it stands in; empty where it is one itself.
        table: String,
        /// What it has.
        key: String,
        /// What may be meant.
        near: Option<String>,
        /// All keys that there are.
        known: Vec<String>,
    },
    /// A limit of runs cannot be meant.
    #[error("configuration {}{}: [limits] {source}", path.display(), on(*line))]
    Limits {
        /// The file.
        path: PathBuf,
        /// Where.
        line: Option<usize>,
        /// Which, and why.
        source: InvalidDeployment,
    },
    /// A limit of the runtime cannot be meant.
    #[error("configuration {}{}: [limits] {source}", path.display(), on(*line))]
    Limit {
        /// The file.
        path: PathBuf,
        /// Where.
        line: Option<usize>,
        /// Which, and why.
        source: LimitError,
    },
    /// What it names is no store.
    #[error("configuration {}{}: [store] {source}", path.display(), on(*line))]
    Store {
        /// The file.
        path: PathBuf,
        /// Where.
        line: Option<usize>,
        /// Why not; without what may be a password.
        source: InvalidStoreUrl,
    },
    /// A setting of the engine cannot be meant.
    #[error("configuration {}{}: [engine] {source}", path.display(), on(*line))]
    Engine {
        /// The file.
        path: PathBuf,
        /// Where.
        line: Option<usize>,
        /// Which, and what is possible.
        source: SettingError,
    },
    /// A setting of the store cannot be meant.
    #[error("configuration {}{}: [store] {source}", path.display(), on(*line))]
    StoreSettings {
        /// The file.
        path: PathBuf,
        /// Where.
        line: Option<usize>,
        /// Which, and what is possible.
        source: SettingError,
    },
    /// Something of what holds for services cannot be meant; it is told of the service `*`.
    #[error("configuration {}{}: [service], [breaker] {source}", path.display(), on(*line))]
    Services {
        /// The file.
        path: PathBuf,
        /// Where.
        line: Option<usize>,
        /// What, and why.
        source: ServiceFault,
    },
    /// Several of these: each says where it is.
    #[error("{}", on_lines(.0))]
    Several(Vec<ConfigError>),
    /// The file is not text.
    #[error("configuration {}: not UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

impl ConfigError {
    /// One problem is told as it is.
    pub(super) fn told(mut problems: Vec<Self>) -> Self {
        if problems.len() == 1 { problems.remove(0) } else { Self::Several(problems) }
    }
}

fn on_lines(problems: &[ConfigError]) -> String {
    let lines: Vec<String> =
        problems.iter().map(|problem| problem.to_string().trim_end().to_owned()).collect();
    lines.join("\n")
}

fn on(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// The nearest key, if one is near, and where all of them are told.
fn unknown(table: &str, key: &str, near: Option<&str>, known: &[String]) -> String {
    let what = match table {
        "" => format!("there is no section `{key}`"),
        table => format!("[{table}] has no key `{key}`"),
    };
    let under =
        if table.starts_with("providers") { "Live providers" } else { "Environments and limits" };
    let listed = format!("the README lists all there are, under \"{under}\"");
    match near {
        Some(near) => format!("{what}: did you mean `{near}`? ({listed})"),
        None if known.len() <= NAMED_MAX => format!("{what}; there are: {}", known.join(", ")),
        None => format!("{what}; {listed}"),
    }
}

/// The same without its line of the file, and without an address, which may hold a password.
pub(super) fn without_address(problem: &toml::de::Error, line: Option<usize>) -> toml::de::Error {
    let mut text = problem.message().to_owned();
    if let Some(at) = text.find("://") {
        let begin = text[..at].rfind(['"', '`']).unwrap_or(0);
        let quote = if text[begin..].starts_with('"') { '"' } else { '`' };
        let rest = &text[at..];
        let end = rest.rfind(&format!("{quote}, expected")).or_else(|| rest.rfind(quote));
        let end = end.map_or(text.len(), |end| at + end + 1);
        text.replace_range(begin..end, &format!("{quote}…{quote}"));
    }
    let place = line.map(|line| format!("at line {line}: ")).unwrap_or_default();
    serde::de::Error::custom(format!("{place}{text}"))
}

/// The key of `[limits]` that a limit of runs is about.
pub(super) fn limit(problem: &InvalidDeployment) -> &str {
    match problem {
        InvalidDeployment::Value { name, .. } => name,
        InvalidDeployment::Limit { .. } | InvalidDeployment::Enforced { .. } | _ => "enforced",
    }
}

/// The keys that a problem of services is about, the first before the others, each with its section.
pub(super) fn service_keys(
    problem: &ServiceFault,
    defaults: &ServiceDefaults,
) -> Vec<(&'static str, &'static str)> {
    let names = match problem {
        ServiceFault::Terms { fault, .. } => match fault {
            TermsFault::Zero { name } | TermsFault::TooLong { name, .. } => vec![*name],
            TermsFault::Inverted { small, large, .. } => vec![large.0, small.0],
            // What comes later is about no key yet.
            _ => Vec::new(),
        },
        ServiceFault::Guard { .. } => {
            let field = defaults.breaker.check().err().map(|problem| problem.field);
            return field.map(|field| ("breaker", field)).into_iter().collect();
        }
        ServiceFault::NoInstance { .. } => vec!["instances_max"],
        ServiceFault::Name { .. }
        | ServiceFault::Repeated { .. }
        | ServiceFault::Driver { .. }
        | ServiceFault::AlwaysOn { .. }
        | _ => Vec::new(),
    };
    // A multiple of one is named by it.
    let key = |name: &'static str| ("service", name.rsplit(' ').next().unwrap_or(name));
    names.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn refused(text: &str) -> String {
        Config::parse("p.toml", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn of_a_key_that_is_not_known_the_nearest_one_is_told_and_where_all_are() {
        for (text, told) in [
            (
                "[engine]\npol_interval = \"1s\"\n",
                "configuration p.toml, line 2: [engine] has no key `pol_interval`: did you mean \
                 `poll_interval`? (the README lists all there are, under \"Environments and limits\")",
            ),
            (
                "engine.claim_bach = 3\n",
                "configuration p.toml, line 1: [engine] has no key `claim_bach`: did you mean \
                 `claim_batch`? (the README lists all there are, under \"Environments and limits\")",
            ),
            (
                "\n[breakr]\nprobes = 1\n",
                "configuration p.toml, line 2: there is no section `breakr`: did you mean `breaker`? \
                 (the README lists all there are, under \"Environments and limits\")",
            ),
            (
                "[providers.anthropic]\nmodell = \"m\"\n",
                "configuration p.toml, line 2: [providers.anthropic] has no key `modell`: did you mean `model`? \
                 (the README lists all there are, under \"Live providers\")",
            ),
            // With what is in it.
            (
                "\n[provider.anthropic]\nmodel = \"m\"\n",
                "configuration p.toml, line 2: there is no section `provider`: did you mean `providers`? \
                 (the README lists all there are, under \"Environments and limits\")",
            ),
            (
                "[engin.b.c]\nd = 1\n[engin.e]\n",
                "configuration p.toml, line 1: there is no section `engin`: did you mean `engine`? \
                 (the README lists all there are, under \"Environments and limits\")",
            ),
            (
                "[engine.aging.b]\nd = 1\n[engine.c.d]\ne = 1\n",
                "configuration p.toml: TOML parse error at line 1, column 9\n  |\n1 | [engine.aging.b]\n  |         ^^^^^\n\
                 invalid type: map, expected a string\nconfiguration p.toml, line 3: [engine] has no key `c`; the \
                 README lists all there are, under \"Environments and limits\"",
            ),
            // None is near.
            (
                "[engine]\nsize = 1\n",
                "configuration p.toml, line 2: [engine] has no key `size`; the README lists all there are, \
                 under \"Environments and limits\"",
            ),
            (
                "[breaker]\nsize = 1\n",
                "configuration p.toml, line 2: [breaker] has no key `size`; there are: failures_max, \
                 open_for, open_max, jitter_percent, probes, successes",
            ),
            (
                "[providers.openai]\nmodel = \"m\"\n",
                "configuration p.toml, line 1: [providers] has no key `openai`; there are: anthropic",
            ),
        ] {
            assert_eq!(refused(text), told, "{text}");
        }
        // One that is no key of a table: it is told as the file has it.
        let told = refused("[service]\non_unavailable = \"skip\"\n");
        assert!(
            told.contains("line 2") && told.contains("expected `skip_child` or `fail`"),
            "{told}"
        );
    }

    /// It may stand anywhere: where a section is expected, a number, a time, one of several words, or where nothing is closed.
    #[test]
    fn an_address_that_stands_where_it_cannot_be_read_is_not_shown() {
        for scheme in ["postgres", "PostgreSQL"] {
            let address = format!("{scheme}://me:a\"word`@host/work");
            let quoted = format!("'{address}'");
            for (text, line, told) in [
                (format!("\nstore = {quoted}\n"), 2, "string \"…\", expected struct StoreSection"),
                (format!("[store]\nurl = [{quoted}]\n"), 2, "invalid type: sequence"),
                (format!("[store]\nreaders = {quoted}\n"), 2, "string \"…\", expected usize"),
                (format!("[store]\n\npatience = {quoted}\n"), 3, "`…`"),
                (format!("[pipeline]\nenvironment = {quoted}\n"), 2, "`…`, expected"),
                (format!("[store]\nurl = {quoted} x\n"), 2, "unexpected key or value"),
                (format!("[store]\nurl = '{address}\n"), 2, "invalid literal string"),
                (format!("[store]\nurl = {address}\n"), 2, ""),
            ] {
                let refused = refused(&text);
                assert!(!refused.contains("word"), "{text}: {refused}");
                let place = format!("configuration p.toml: at line {line}: ");
                assert!(refused.starts_with(&place) && refused.contains(told), "{text}: {refused}");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told_as_it_is_written_with_its_line() {
        for (text, told) in [
            (
                "[engine]\n\npoll_interval = '0s'\n",
                "p.toml, line 3: [engine] `poll_interval` is 0s; 1ms to 60s are possible",
            ),
            (
                "engine = {run_timeout = \"2years\"}\n",
                "p.toml, line 1: [engine] `run_timeout` is 2years; 1ms to 31622400s are possible",
            ),
            (
                "[store]\nqueue_max = 2_000_000\n",
                "p.toml, line 2: [store] `queue_max` is 2_000_000; 1 to 1000000 are possible",
            ),
            ("[limits]\nruns = 0\n", "p.toml, line 2: [limits] the limit `runs` is 0"),
            (
                "[limits]\nmax_total_steps = 0\n",
                "p.toml, line 2: [limits] the limit `max_total_steps`",
            ),
            ("[limits]\nenforced = [\"max_total_steps\"]\n", "p.toml, line 2: [limits] the limit"),
            (
                "[limits]\nenforced = [\"steps\"]\n",
                "p.toml, line 2: [limits] unknown limit `steps`",
            ),
            ("[store]\nurl = \"nothing://x\"\n", "p.toml, line 2: [store] "),
            (
                "[service]\nready_within = \"0s\"\n",
                "p.toml, line 2: [service], [breaker] the service `*`: ready_within is 0",
            ),
            (
                "[service]\nprobe_timeout = \"1m\"\n",
                "p.toml, line 2: [service], [breaker] the service `*`: health_ttl is 30s",
            ),
            (
                "[service]\ninstances_max = 0\n",
                "p.toml, line 2: [service], [breaker] the service `*`",
            ),
            ("[breaker]\nopen_for = \"0s\"\n", "p.toml, line 2: [service], [breaker] what guards"),
            // No time is too long to be told.
            (
                "[engine]\nlease_ttl = \"18446744073709551615s\"\n",
                "p.toml, line 2: [engine] `lease_ttl` is 18446744073709551615s; 1s to 600s are possible",
            ),
            (
                "[engine]\n\ndrain_grace = \"18446744073709551615s\"\n",
                "p.toml, line 3: [engine] `drain_grace` is 18446744073709551615s; 1s to 600s are possible",
            ),
            // What is set does not go with what is usual.
            (
                "[engine]\ndrain_grace = \"20s\"\n",
                "configuration p.toml: [engine] `drain_timeout` is 10s; 21s to 86400s are possible",
            ),
        ] {
            let refused = refused(text);
            assert!(refused.contains(told), "{text}: {refused}");
        }
        // What only follows from it is not told.
        let told = refused("[engine]\ndrain_grace = \"2h\"\n");
        assert_eq!(
            told,
            "configuration p.toml, line 2: [engine] `drain_grace` is 2h; 1s to 600s are possible"
        );
    }
}
