//! Speaks the workflow language: the only crate that knows it.
//!
//! A document becomes a checked [`Pipeline`], a pipeline bound to inputs and providers becomes a
//! [`Workflow`](perennial_engine::Workflow) of the engine. Everything but the attempt of a step
//! is pure: no file, no clock, no randomness.
//!
//! | room | holds |
//! |---|---|
//! | `source` | bytes → tree in which every value knows its place |
//! | `diagnostic` | what is wrong, as text and as JSON |
//! | `expression` | the one grammar of templates and conditions: parser, functions, pure evaluation |
//! | `compose` | definitions of several files |
//! | `environment` | variables of the environment in texts, bound when a run begins |
//! | `extraction` | the content extractor: what a text has, in which form |
//! | `formula` | one template or condition on values at hand, without a run |
//! | `deployment` | mode and limits of a run, and who says so: the table, and who is stronger |
//! | `check` | tree → pipeline, every fault found at once; `keys` is the table of all keys, and the schema |
//! | `definition` | the resolved definition, its canonical bytes, the inputs of a run |
//! | `run` | the pipeline as a workflow: next step, attempt, record |
//! | `resume` | what becomes of each step when a run goes on, maybe by a corrected document |
//! | `schemas` | JSON Schemas: what is wrong with a value, and with a schema |
//! | `explanation` | what a step would do |
//! | `uses` | what a step reads, and whose value it is |
//! | `graph` | the pipeline as a picture, of a run with its states |
//! | `spelling` | "did you mean" |
//!
//! What the language has and this version does not is a load error with the hint
//! `not in this version`; nothing is silently ignored.
//!
//! # Deviations
//!
//! * YV-1: records do not hold `replayed`, `attempts` and `duration_ms`, nor (YR-22)
//!   `error.attempt`, but for steps with a handler, which may ask for it: a run that was killed and
//!   resumed leaves the same records as one that was not. The journal has all four.
//! * YS-7: `debug_info` and `telemetry` hold nothing that depends on time: `duration_ms` is in the
//!   journal.
//! * 1.7: `retry_on` takes names of classes; a text that is to be found in the message of a failure
//!   is refused.
//! * YF-23: a hint is also less than half of the name it proposes away: `file` is no misspelt `role`.
//! * 1.7: a type that is a template may become any type but those with steps of their own, whose jobs have to
//!   be known before. Its record says which it was, as `step_type`; an `echo` of a value with that field fails (PL611).
//! * 1.7: `cache` keeps results of calls to models alone. Its key is the step as it is written, the provider, and the
//!   whole request or, in place of that, `key` with the model: what else a `key` leaves out is up to its author.
//! * YR-64: `streaming` is checked and changes nothing: every value is a row of the store, of at most 64 MB, and is in
//!   memory while its run is; every reader sees all of it.
//! * 1.9: `duplicate_names` is not in this version: a name is the key of a job, which is one, and
//!   what explain, graph, results and resume know a step by. Steps of one name would need a number
//!   in their paths, and every reference the number it means.
//! * 4.4: `handled` is the value view of the last step of the handler that ran, null when all were
//!   skipped. The error of a handler that failed stands in `error.related`. A limit of a nested
//!   pipeline around the step ends that pipeline: handlers inside it neither begin nor go on. In
//!   its own handler a step has no result (`error` is what is known of it), and no variables of its
//!   own. `max_total_steps` does not count steps of handlers; `clear_vars` comes after the handler.
//! * 3.3: `error` has `path`, `retryable`, `cause` and `location` besides; `at` is the instant at
//!   which the handler was opened. Outside of handlers `error` is a name as any other, and a path
//!   that would imply an input of this name is an error.
//! * YP-8: without `extract`, a `previous_response` part gets the value view of its step (YT-12):
//!   of a reply its structured data, else its text, never its cost and usage.
//! * YC-4: what expressions warn of (an undecided comparison read as false, a division by zero, an
//!   operand of no use) is an event of the run, `step_warning`, committed with the attempt's end: at
//!   most 20 of them, each cut to 500 characters. Records that are objects have them as `warnings`.
//! * YP-4: a filter of texts gets a list or an object as indented JSON; all others get the value of
//!   a `previous_response` part as it is, and the text of any other part.
//! * 1.7: `clear_vars` hides values from everything that runs later; the engine keeps the records,
//!   which are what a resume is made from. A step that is skipped clears nothing.
//! * YP-5: braces of a file are looked at when the part has `variables` (maybe none) or `templates`,
//!   or another part is injected; otherwise the text is given as it stands. A `{if` without a `}` on
//!   its line is no block; any other malformed block fails the step. More files than `max_files`,
//!   and a directory or glob without any, fail it too. Components are texts and static parts.
//! * YP-10: the extractor reads the text before the keys of every part do. `extracted_at` of a text without JSON is the
//!   start of the run, so that a repeated attempt asks the same. Operations look at the text as it was extracted, not at
//!   what others append; each appends at most 1,000 findings.
//! * 2.0: `retry_on` of `retry_config` takes classes and the names of conditions (2.8) but those that are reasons inside of
//!   a class (`max_turns`, `parsing_error`, `schema_error`). Beside `retry` of the step it adds to that only where the step
//!   itself has it, not from `defaults`.
//! * 2.2: `candidate_count` is 1, as a record has one text. `max_input_tokens` counts a third of the bytes of the prompt and
//!   its system text, and not what is added to ask for a repair.
//! * YP-6: files are not cached within a run: each attempt reads them anew.
//! * YP-12: `perennial prompt` is not in this version: the journal has the digests of requests, and
//!   not their texts. `--show-prompts` shows them as they are sent.
//! * YT-22: `uuid()` is derived from the key of the job, which is in the journal, and is the same
//!   on every attempt. `now()` is the instant at which the attempt was claimed, the same throughout
//!   it; what a finished step made of it is in its record and stays on a resume, while an attempt
//!   that is repeated after a failure or a death of its process may see another instant (its calls
//!   are then other requests, when their text depends on it).
//! * YT-10: what follows `[*]` or `[?()]` is taken from each element, as in JSONPath; elements
//!   without it are left out. `$` is what the elements are taken from, in expressions about them.
//! * YC-9: an unquoted argument about elements has to name `@` or `item`.
//! * 2.10: `append_to` appends the values of `variables` to a list, `merge_into` merges them into a
//!   map; the variables themselves are not set. A target of another type is PL619.
//! * YT-16: PL310 knows the records of `set_variable` and `file_ops`, of `pipeline` with declared `outputs` and no
//!   `fallback_value`, and of calls to models with an `output_schema`, of which it takes closed objects, in templates
//!   and conditions; fields that only skipped or failed records have are never ruled out.
//!   A path with `?`, `??`, a default, `exists` or `empty`, or a hole whose document has `missing_templates`, is a
//!   lookup that may miss (YT-17), and no error.
//! * 3.8: the scopes `loop` and `session` are not in this version.
//! * YT-34: origins of values are not tracked. In a file name, a hole may only bring a path separator when all names
//!   in it are of the inputs, of `global_vars`, `workflow`, `timestamp`, `date` or the run, or when `slug` or `path`
//!   is its last filter: what any step made is refused, also when no model did.
//! * YR-63: the file is written by the attempt, before its result is committed, and not after: an attempt that is
//!   repeated writes the same. The record says `output_file`; the bare value of an `echo` step has no place for it.
//! * YR-74: a run makes its directories when its document or its start names one, or a step works on files.
//! * 2.15: `wait` is not in this version; `chunk_size` is checked and changes nothing, as all copies go in chunks. A
//!   pattern with `.*` and nothing that only regular expressions have is a glob; `pattern_type` decides otherwise.
//!   A CSV row with more fields than there are names is an error; `json_to_xml` writes lists as repeated elements.
//! * YS-90: `move`, `delete`, `append` and processing in place journal what they see before they change anything, as a
//!   call, so that a repeated attempt finishes what is left; the others write what is there already, and leave it.
//! * YR-56: `run` goes on with an unfinished run only when its inputs, its provider mode, its mocks and the directories
//!   that the command names are those it has; with others a fresh run starts, and so beside one that is paused. `resume --all` continues what was interrupted; runs that failed or were
//!   cancelled are resumed by name. `--restore-workspace` and `fork` are not in this version.
//! * YR-2: a definition does not have the children that are named while the run is under way: their digests stand in the
//!   records of the jobs that open them.
//! * YR-2, YR-53: the digest of a step is that of what it says and of what its texts read of the document and the
//!   inputs; which steps it depends on is planned beside it, before anything runs. So what depends on a step that runs
//!   again runs again as well, also when that step gives what it gave before. Files are a dependency of every step that
//!   reads files on every earlier step that writes some. A step that failed after its reply was recorded takes the same
//!   reply again (YR-51); `resume --from STEP` asks anew: that step and all behind it take no result that was kept
//!   (1.7, `cache`) until they have come to a good end, and what they give is kept.
//! * YR-54: a run that failed, timed out or was cancelled gets its whole time again when it is resumed, and so does a
//!   child whose steps run again. What a configuration enforces (YF-48), and how long a host gives a run, is recorded with it
//!   and holds in every round; a resume where more is enforced narrows it for good.
//! * YR-71: where the directories of a run lead is recorded with it. A run of which one leads elsewhere is not resumed.
//! * YR-14: results of steps that a corrected document puts between others are listed after those it kept.
//! * 1.4, 4.6: exports have no blobs, as this
//!   version keeps none; one that fails is a warning in the log and in the tree, not an event of the run; what is
//!   known at once, as after a restart, is one export.
//! * YR-62, 7: `export`, `import` and `fork` are not in this version: an export has neither the inputs nor the settings
//!   that a run would be made from again. A failed run goes on with `resume`, by a corrected document too.
//! * 4.2: `concurrency: auto` is not in this version: steps run in the order of the document.
//! * YR-72: PL521 is told of relative paths without holes that climb above their base; the others are seen when used.
//! * YR-5: a child is no run of its own: its steps are jobs of its parent's run, keyed by step path
//!   (`n/a`; `n#2/a` in the second round of a retried child, `#n` for the job that opens it). In
//!   keys, the characters `%`, `/`, `#`, `[` and `]` of names are written as `%25` and so on.
//! * 2.16: `max_total_steps` counts a child once, however often it is retried. The pause before a
//!   further round begins anew when its process dies. A retried child keeps the inputs it was given.
//! * 2.16, YM-21: a limit that is passed is of class `limit` and no other, time included. Memory is
//!   the JSON of results and inputs, counted before and after each attempt, not during it.
//! * YS-94: directories and exports that a child, or the `config` of its step, names have no effect, and a note (PL220)
//!   says so: it works in those of its run (YR-75).
//! * 2.16: a child that is loaded while its run is under way is checked when it is opened; it sees the variables of the
//!   environment that the run has read when it began, and names by `pipeline_ref` only what its own files name. What is
//!   recorded of it stays when its file changes; `resume --from STEP` reads it anew, and so does every resume of a run
//!   in which it was not opened: no such file, one with errors, inputs that are missing, a limit. Whether it is one of
//!   the pipelines around it is told by the digest of its definition. A pipeline stands at most 32 deep, and what passes
//!   into it is checked when it is opened; a literal `pipeline_file` never closes a circle. A `^`-range compares up to
//!   three numbers; any other version is only equal to itself. Numbers of the host's registry come from the document's
//!   own `workflow.version`, not from what it extends. `prune_results` names outputs, no fields inside of them.
//!   `graceful_timeout`, `immediate_timeout`, `enable_tracing`, `trace_metadata` are not in this version. Replies of
//!   `mock_responses` are single ones, and hold for the steps of the child, not for those of children in it.
//! * 1.11: `nested_workspace_root` is an option or a variable of the environment, and no key of the configuration. A
//!   fresh workspace is emptied when the child is opened, kept for all its rounds, and removed when the child is closed: that of a
//!   run that is cancelled stays. Inside a child that is gone through again, a child with a fresh workspace begins
//!   anew. `workspace_dir` has to lie where the parent may write (YS-94); it is never removed. `preserve_outputs` and
//!   `max_size_mb` of `workspace` are not in this version.
//! * YR-67: a reply that is not JSON is told, repaired and refused as one that violates its schema (PL608, not PL621).
//!   Its record has `repairs`, and the cost and usage of all its calls; what calls of a step that failed have cost is
//!   the `cost` of its record. A repair is told the reply, its violations and the schema, not those before it.
//! * YR-68: keywords that it has no words for have words like them; a report has at most 200 lines. Schemas are read as
//!   draft 2020-12, whatever `$schema` says, and refer to nothing outside of them. A schema that is none is told with
//!   the code of what is wrong with it: PL203, PL204, PL205, PL406 for patterns, PL313 for references. What
//!   takes more than 20,000,000 comparisons, or 1,000 inside of each other, is refused: a schema with PL205, a value
//!   as one that violates it.
//! * YF-41: in places where no text with holes is asked for, a variable of the environment is read
//!   at load and its value is part of the definition; a secret there is PL223. `env.NAME` in an
//!   expression is typed like `${NAME}` alone; secrets (YF-42) stay texts. The default of `${NAME:-text}` also stands for an
//!   empty variable, as in a shell.
//! * YF-42: what an expression with a function makes of a secret is looked for as a whole, and its texts below 8 bytes
//!   are `[redacted]` from the start; a part that somebody else, as a model, cuts from such a text is not found. A run in which
//!   functions make more than 256 texts, or 1 MiB, of its secrets fails there (PL606). Names of files hold no secret (PL609).
//! * YF-42: of secrets shorter than 8 bytes whole texts are redacted, and no texts that hold them, no numbers and no
//!   keys; the run warns of it. The key of the hashes is
//!   recorded with the run: a hash tells a change, it does not protect a value that can be guessed.
//! * YF-18: `--deny-warnings` refuses notes too, as it is written. PL311 is a warning where the name is probably another one
//!   misspelt, where other inputs are declared, and for `state.x` that is set nowhere; PL401 is one for `{% … %}` and an
//!   unclosed `${NAME`, which stay text.
//! * YF-44: of two included files the later one wins; both win over what is extended. A definition
//!   puts at most 200 files together, counting each time one is named.
//! * YF-45: `$if` does not see what branches of other `$if` give; a branch names no files.
//! * 1.6: the mode `development` has its column of the table of limits when somebody names it; where nobody names a mode,
//!   `environment.mode` reads `development` and the built-in column holds. Of `environment`, costs and more log detail
//!   are not in this version; flags of `debug_config` and of modes for which it has nothing may be there when they are
//!   off. `force_mock_providers` refuses a live start: it does not change the mode of the run.
//! * 1.11: the rows of turns, presets and `claude_robust` come with their step types. `PIPELINE_TIMEOUT` is the only
//!   variable of the environment that sets a limit. What a configuration enforces binds documents and options alike. A
//!   resumed run has the limits it was started with.
//! * 6.5, 6.6: what this version has no meter for is refused (calls, tokens, costs, sizes of directories, commands,
//!   requests). `max_file_operations` counts executed `file_ops` steps. The run as a whole is warned of at 80 % of its
//!   memory. Limits and confinement in the document of a child are refused, its environment and directories have no
//!   effect (PL220): they are those of the run.
//! * 1.6: `models.….by_task` goes by the names of steps. `workspace_config.create_if_missing: false` is seen at the
//!   start, not on a resume.
//! * YR-71: files that `extends`, `include` and `pipeline_file` name may lie outside of the read roots when they are read
//!   before the run; those that are read while it is under way may not.
//! * YM-12: averages of memory and figures of the processor are in the monitor's row of the dump only: they are
//!   samples, and the journal has none. `prompt_cache_hits` beside `cache_hits` counts calls that read
//!   from a cache of the provider. An exchange that failed leaves no reply: it is no part of `llm_calls`, tokens or cost.
//! * YM-13: spans of runs and steps are read from the journal (`show --trace`); those of `tracing` are of attempts and
//!   calls. Calls of tools are spans of the trace once there are any. Of slow spans only the innermost is a finding.
//!   Memory is graded at 100, 500 and 1000 MB. What is not known is left out of the grade.
//! * 1.4: an input that is declared without `default` and without `required: false` is required.

mod check;
mod compose;
mod definition;
mod deployment;
mod diagnostic;
mod environment;
mod explanation;
mod expression;
mod extraction;
mod formula;
mod graph;
mod resume;
mod run;
mod schemas;
mod source;
mod spelling;
mod uses;

pub use check::{Checked, KeyEntry, StepTypeEntry, read_yaml, schema, step_types};
pub use definition::{
    Confinement, Exports, Input, InputErrors, InputType, InvalidDefinition, InvalidInput,
    InvalidLeniency, LANGUAGE, Leniency, Pipeline, Plan, PlannedJob, ProviderKind, ReadFile,
};
pub use deployment::{Deployment, EnvironmentMode, InvalidDeployment, UnknownMode};
pub use diagnostic::{Code, Diagnostic, Excerpt, Related, Severity, render, report_json};
pub use environment::RunEnvironment;
pub use explanation::{CallExplanation, Reads, StepExplanation, ValueExplanation};
pub use expression::{FunctionEntry, functions, yaml_text};
pub use formula::{Evaluated, Formula, FormulaFault, InvalidFormula, NoValue};
pub use graph::{Graph, StepState};
pub use resume::{RecordedJob, RerunWhy, ResumePlan, ResumedStep, StepFate, Version};
pub use run::{
    BuiltPrompt, CallDefaults, FailureText, InvalidSettings, PartText, PipelineRun, Providers,
    Resolved, RunDirectories, RunSettings,
};
pub use source::{
    FILE_BYTES_MAX, MemorySources, Position, REGISTERED_MAX, Registry, RegistryError, SourceFault,
    SourceFile, SourceLoader, Span,
};
pub use spelling::nearest;
