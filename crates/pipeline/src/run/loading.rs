//! Children whose file is named while the run is under way (2.16).
//!
//! Reading it is a call of the job that opens the child: what was read is journaled before anything follows from it,
//! and stands in the record of the opening. No process reads the file again for the same opening, whatever becomes of
//! it: only an opening that is asked anew, or whose path is another one, does.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use perennial_core::{Digest, FailureClass, failure::Failure};
use perennial_engine::AttemptCx;
use perennial_tools::files::{Access, Base, FileError};
use serde_json::{Map, Value, json};

use super::{
    PipelineRun,
    files::guarded_path,
    scope::{Context, Scope},
    tree::{Due, Frame},
};
use crate::{
    check::Parent,
    definition::{Child, Loaded, Location, Model, Nested, Output, Pipeline},
    diagnostic::{Diagnostic, Severity},
    environment::RunEnvironment,
    expression::TextPath,
    source::{FILE_BYTES_MAX, SourceFault, SourceFile, SourceLoader},
};

/// Most bytes of the definition of one child: it is journaled, and a part of a record.
const DEFINITION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most faults of a child that are told.
const FAULTS_MAX: usize = 10;

/// What passes into a child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed<'p> {
    /// Its inputs.
    pub(super) given: &'p Map<String, Value>,
    /// What it sees of its parent, when it is told to.
    pub(super) context: Option<&'p Context>,
}

impl PipelineRun {
    /// The child that is to be opened. One that is not known before is loaded, and put into the record `opening`.
    ///
    /// # Errors
    ///
    /// When there is no such child, it cannot be read, or has errors.
    pub(super) async fn child<'a>(
        &'a self,
        cx: &AttemptCx,
        due: &Due<'a>,
        nested: &'a Nested,
        scope: &Scope<'_>,
        passed: Passed<'_>,
        opening: &mut Value,
    ) -> Result<&'a Model, Failure> {
        let later = match &nested.child {
            Child::Known(model) => return Ok(model),
            Child::Again(again) => {
                let frame = due.frames.last().cloned().unwrap_or_else(|| self.root());
                return frame.again(again.again).map(|(model, _)| model).ok_or_else(|| {
                    let text = format!("the pipeline `{}` does not stand around it", again.name);
                    Failure::new(FailureClass::Internal, "PL699", text)
                });
            }
            Child::Later(later) => later,
        };
        let path = guarded_path(&later.file, scope)?;
        let told = |failure: Failure| Failure {
            message: format!(
                "Failed to load pipeline file '{path}', named by {} of step `{}`: {}",
                later.file.written(),
                due.step.name,
                failure.message
            ),
            ..failure
        };
        let base = self.base_of(due.step.location.as_ref());
        let request = Digest::of_json(&json!({ "pipeline_file": path, "base": shown(&base) }));
        let parent = self.parent(due, passed);
        let reply = cx.call(request, async |_| self.load(&path, base, parent, scope).await);
        let reply = reply.await.map_err(told)?;
        for warning in reply.value["warnings"].as_array().into_iter().flatten() {
            cx.warnings.push(warning.as_str().unwrap_or_default());
        }
        opening["child"] = reply.value["child"].clone();
        let unreadable = |why: String| Failure::new(FailureClass::Internal, "PL699", why);
        let model =
            self.children.recorded(opening).map_err(|error| unreadable(error.to_string()))?;
        let model = model.ok_or_else(|| unreadable("nothing was recorded of it".to_owned()))?;
        no_cycle(&due.frames, nested, model).map_err(told)?;
        has_outputs(nested, model).map_err(told)?;
        for name in passed.given.keys().filter(|_| model.inputs.iter().any(|input| input.declared))
        {
            if nested.inputs.iter().any(|(own, _)| own == name)
                && !model.inputs.iter().any(|input| input.name == *name)
            {
                let text = format!(
                    "nested pipeline '{}': it declares its inputs and not `{name}`",
                    model.name
                );
                cx.warnings.push(&text);
            }
        }
        Ok(model)
    }

    /// Where a file is looked for that is named at `location`, beside the project root: in the directory of the
    /// document that names it (YR-70).
    pub(super) fn base_of(&self, location: Option<&Location>) -> Base {
        let documents = self.settings.directories.as_ref().map(|all| all.documents.as_slice());
        let documents = documents.unwrap_or_default();
        let file = location.map(|location| Path::new(&location.file));
        let folder = match file.and_then(Path::parent) {
            Some(folder) if folder.is_absolute() => Some(folder.to_owned()),
            Some(folder) if folder != Path::new("") => {
                documents.iter().find(|known| known.ends_with(folder)).cloned()
            }
            Some(_) | None => None,
        };
        folder.or_else(|| documents.first().cloned()).map_or(Base::Project, Base::Document)
    }

    /// What a check of the child knows of what is around it.
    fn parent(&self, due: &Due<'_>, passed: Passed<'_>) -> Parent {
        let Passed { given, context } = passed;
        let names = |value: &Value| -> BTreeSet<String> {
            value.as_object().into_iter().flat_map(Map::keys).cloned().collect()
        };
        let model = due.frames.last().map_or(&self.pipeline.model, |frame| frame.model);
        Parent {
            step: due.step.name.clone(),
            lenient: model.lenient.clone(),
            deployed: self.pipeline.model.deployed.clone(),
            empty_when_missing: self.pipeline.model.empty_when_missing,
            given: given.keys().cloned().collect(),
            variables: context.map(|context| names(&context.variables)).unwrap_or_default(),
            globals: context.map(|context| names(&context.global_vars)).unwrap_or_default(),
            inputs: context.map(|context| names(&context.inputs)).unwrap_or_default(),
        }
    }

    /// Reads and checks the file; what is journaled of it.
    async fn load(
        &self,
        path: &str,
        base: Base,
        parent: Parent,
        scope: &Scope<'_>,
    ) -> Result<Value, Failure> {
        let (wanted, environment) = (path.to_owned(), self.settings.environment.clone());
        let files = self.files().await?;
        let tried = tried(&files.directories().project_root, &base, path);
        let work = move |access: &Access<'_>| {
            let reading = Reading { access, environment: &environment };
            let file = reading.file(&base, &wanted)?;
            let source = Digest::of(&file.bytes);
            Ok((Pipeline::load_child(&file, &reading, &parent), source))
        };
        let loaded = files.perform(work).await.map_err(|error| unread(&error, &tried))?;
        let ((pipeline, diagnostics), source) = loaded;
        let Some(pipeline) = pipeline else { return Err(faulty(&diagnostics)) };
        let refuse =
            |code: &str, text: &str| Err(Failure::new(FailureClass::Reference, code, text));
        if pipeline.definition().bytes.len() > DEFINITION_BYTES_MAX {
            let most = DEFINITION_BYTES_MAX >> 20;
            return refuse("PL107", &format!("its definition has more than {most} MiB"));
        }
        let loaded = Loaded { source: Some(source), ..Loaded::of(&pipeline) };
        if scope.finds_secret(&loaded.definition) {
            return refuse("PL223", "a secret of the run would be part of its definition");
        }
        self.providers.admit(&pipeline)?;
        let warned = diagnostics.iter().filter(|one| one.severity == Severity::Warning);
        let warnings: Vec<String> = warned.map(line).collect();
        let mut value = json!({ "warnings": warnings });
        loaded.put(&mut value);
        Ok(value)
    }
}

/// Reads the files of a child where the run may read, and gives it the variables that the run has.
#[derive(Debug)]
struct Reading<'a> {
    access: &'a Access<'a>,
    environment: &'a RunEnvironment,
}

impl Reading<'_> {
    fn file(&self, base: &Base, path: &str) -> Result<SourceFile, FileError> {
        // What is too large is not read to find that out.
        if let Some(found) = self.access.look(base, path)?
            && found.size > FILE_BYTES_MAX as u64
        {
            let bytes = vec![b' '; FILE_BYTES_MAX + 1];
            return Ok(SourceFile::new(found.path.display().to_string(), bytes));
        }
        let content = self.access.read(base, path)?;
        let name = content.identity.path.display().to_string();
        let shadows = content.shadowed.map(|path| path.display().to_string());
        Ok(SourceFile { shadows, ..SourceFile::new(name, content.bytes) })
    }
}

impl SourceLoader for Reading<'_> {
    fn read(&self, path: &str, named_in: &str) -> Result<SourceFile, SourceFault> {
        let folder = Path::new(named_in).parent().map(PathBuf::from);
        let base = folder.map_or(Base::Project, Base::Document);
        self.file(&base, path).map_err(|error| SourceFault::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }
}

fn shown(base: &Base) -> Option<String> {
    if let Base::Document(folder) = base { Some(folder.display().to_string()) } else { None }
}

/// The places where `path` is looked for.
fn tried(project: &Path, base: &Base, path: &str) -> Vec<PathBuf> {
    let mut places = vec![project.join(path)];
    if let Base::Document(folder) = base {
        places.push(folder.join(path));
    }
    places.dedup();
    places
}

fn unread(error: &FileError, tried: &[PathBuf]) -> Failure {
    if !error.is_not_found() {
        return Failure::new(error.class(), error.code(), error.to_string());
    }
    let text = match tried {
        [first, second] => {
            format!("there is neither {} nor {}", first.display(), second.display())
        }
        _ => error.to_string(),
    };
    Failure::new(error.class(), "PL502", text)
}

/// What is wrong with a child, at its places.
fn faulty(diagnostics: &[Diagnostic]) -> Failure {
    let errors: Vec<&Diagnostic> =
        diagnostics.iter().filter(|one| one.severity == Severity::Error).collect();
    let mut lines: Vec<String> = errors.iter().take(FAULTS_MAX).copied().map(line).collect();
    if errors.len() > FAULTS_MAX {
        lines.push(format!("and {} more", errors.len() - FAULTS_MAX));
    }
    if errors.iter().any(|error| error.code.0 == 217) {
        let text =
            "a child that is loaded by a run has the variables that the run has read when it began";
        lines.push(text.to_owned());
    }
    let noun = if errors.len() == 1 { "an error" } else { "errors" };
    let text = format!("it has {noun}:\n{}", lines.join("\n"));
    Failure::new(FailureClass::Reference, "PL502", text)
}

fn line(found: &Diagnostic) -> String {
    let line = found.span.map_or(1, |span| span.start.line);
    format!("{}:{line}: {}: {}", found.file, found.code, found.message)
}

/// A pipeline is not its own child, however many lie between, unless the step permits it (YM-23).
fn no_cycle(frames: &[Frame<'_>], nested: &Nested, child: &Model) -> Result<(), Failure> {
    if nested.allow_recursion {
        return Ok(());
    }
    let identity = child.identity();
    let around: Vec<&Model> =
        frames.iter().filter(|frame| frame.around.is_none()).map(|frame| frame.model).collect();
    let Some(first) = around.iter().position(|model| model.identity() == identity) else {
        return Ok(());
    };
    let names = around[first..].iter().map(|model| model.name.as_str());
    let names: Vec<&str> = names.chain([child.name.as_str()]).collect();
    let text = format!(
        "Circular dependency detected: {} (`allow_recursion: true` with a `max_depth` permits it)",
        names.join(" → ")
    );
    Err(Failure::new(FailureClass::Reference, "PL504", text))
}

/// The steps that the parent takes its outputs from are there.
fn has_outputs(nested: &Nested, child: &Model) -> Result<(), Failure> {
    let names: Vec<&str> = child.steps.iter().map(|step| step.name.as_str()).collect();
    let missing = nested.outputs.iter().filter_map(|output| match output {
        Output::Step(name) => {
            let text = format!("Output '{name}' not found in results");
            (!names.contains(&name.as_str())).then_some(text)
        }
        Output::Path { path, .. } => match TextPath::parse(path) {
            Ok(TextPath::Definite(segments)) => {
                let (first, _) = segments.first()?.field()?;
                let text = format!("Path '{path}' not found in results");
                (!names.contains(&first)).then_some(text)
            }
            Ok(TextPath::Query(_)) | Err(_) => None,
        },
    });
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("{}: its steps are: {}", missing.join("; "), names.join(", "));
    Err(Failure::new(FailureClass::Reference, "PL511", text))
}
