//! A run's files against those who want more of them.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use perennial_core::FailureClass;
use tempfile::TempDir;

use super::*;

/// A project with a workspace in it, and secrets beside it.
struct Field {
    top: TempDir,
    files: Files,
}

impl Field {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut RootsSpec)) -> Self {
        let top = TempDir::new().unwrap();
        let project = top.path().join("project");
        fs::create_dir(&project).unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        fs::write(top.path().join("outside/secret"), "secret").unwrap();
        let directories = ChosenDirectories::default().resolve(&project);
        directories.make().unwrap();
        fs::write(project.join("prompt.md"), "prompt").unwrap();
        fs::write(project.join("workspace/a.txt"), "a").unwrap();
        let mut spec = RootsSpec::new(directories);
        change(&mut spec);
        Self { files: Files::open(spec).unwrap(), top }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.top.path().join(path)
    }

    fn access<T>(&self, work: impl FnOnce(&Access<'_>) -> T) -> T {
        work(&Access::new(&self.files.roots, &Halt::default()))
    }

    fn read(&self, base: Base, path: &str) -> Result<FileContent, FileError> {
        self.access(|access| access.read(&base, path))
    }

    fn write(&self, base: Base, path: &str) -> Result<FileIdentity, FileError> {
        self.access(|access| access.write_atomic(&base, path, b"new"))
    }

    /// Every path below the top that is no directory, with its content.
    fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        let mut todo = vec![self.top.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                all.push((path.display().to_string(), Vec::new()));
                if kind.is_dir() {
                    todo.push(path);
                } else if kind.is_file() {
                    all.push((path.display().to_string(), fs::read(path).unwrap()));
                }
            }
        }
        all.sort();
        all
    }
}

fn code<T>(result: Result<T, FileError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}

#[test]
fn yr_71_no_path_leads_a_read_or_a_write_out_of_the_roots() {
    let field = Field::new();
    let top = field.top.path().display().to_string();
    symlink(field.at("outside"), field.at("project/workspace/dir")).unwrap();
    symlink(field.at("outside/secret"), field.at("project/workspace/file")).unwrap();
    symlink("../../outside/new", field.at("project/workspace/dangling")).unwrap();
    symlink("loop", field.at("project/workspace/loop")).unwrap();
    symlink("a.txt", field.at("project/workspace/inner")).unwrap();
    symlink(field.at("project/prompt.md"), field.at("project/workspace/to_project")).unwrap();
    let before = field.everything();
    let absolute = format!("{top}/outside/secret");
    let inside = format!("{top}/project/workspace/a.txt");
    let around = format!("{top}/project/workspace/../../outside/secret");
    let rows: &[(&str, &str, &str)] = &[
        // path, code of a read, code of a write into the workspace
        ("../../outside/secret", "PL609", "PL609"),
        ("x/../../../outside/secret", "PL609", "PL609"),
        ("missing/../../../outside/new", "PL609", "PL609"),
        ("..", "PL601", "PL609"),
        ("../prompt.md", "ok", "PL609"),
        (&absolute, "PL609", "PL609"),
        (&around, "PL609", "PL609"),
        ("/etc/passwd", "PL609", "PL609"),
        ("/proc/self/environ", "PL609", "PL609"),
        ("/proc/self/root/etc/passwd", "PL609", "PL609"),
        ("dir/secret", "PL609", "PL609"),
        ("dir/../secret", "PL609", "PL609"),
        ("dir/new/deep", "PL609", "PL609"),
        ("file", "PL609", "PL609"),
        ("dangling", "PL609", "PL609"),
        ("loop", "PL601", "PL601"),
        ("to_project", "ok", "PL609"),
        ("inner", "ok", "ok"),
        (&inside, "ok", "ok"),
        ("", "PL605", "PL605"),
        ("a\0b", "PL605", "PL605"),
        (".", "PL601", "PL609"),
        ("a.txt/b", "PL601", "PL601"),
    ];
    for (path, read, write) in rows {
        assert_eq!(code(field.read(Base::Workspace, path)), *read, "read {path:?}");
        let wrote = field.access(|access| {
            access.write_atomic(&Base::Workspace, path, if *write == "ok" { b"a" } else { b"no" })
        });
        assert_eq!(code(wrote), *write, "write {path:?}");
        let removed = field.access(|access| access.remove(&Base::Workspace, path, true));
        if *write != "ok" {
            assert!(removed.is_err(), "remove {path:?}");
        }
        if *write == "PL609" {
            let moved = |from: &str, to: &str| {
                let base = Base::Workspace;
                field.access(|access| code(access.rename((&base, from), (&base, to))))
            };
            assert_eq!(moved(path, "stolen"), "PL609", "move {path:?}");
            assert_eq!(moved("a.txt", path), "PL609", "move to {path:?}");
        }
        // What was removed on purpose is put back.
        fs::write(field.at("project/workspace/a.txt"), "a").unwrap();
    }
    assert_eq!(field.everything(), before, "no side effect");
}

#[test]
fn yr_71_a_refusal_is_of_class_path_and_a_missing_file_of_class_io() {
    let field = Field::new();
    let failure = field.read(Base::Reads, "../../outside/secret").unwrap_err().failure();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Path, "PL609"));
    let failure = field.read(Base::Reads, "nothing").unwrap_err().failure();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Io, "PL601"));
    assert!(failure.message.contains("nothing"), "{}", failure.message);
}

#[test]
fn what_is_no_regular_file_is_neither_read_nor_replaced_and_nothing_waits_for_it() {
    let field = Field::new();
    let pipe = field.at("project/workspace/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _socket = UnixListener::bind(field.at("project/workspace/socket")).unwrap();
    for path in ["pipe", "socket"] {
        for result in [
            field.read(Base::Workspace, path).map(drop),
            field.write(Base::Workspace, path).map(drop),
        ] {
            assert!(matches!(result, Err(FileError::Special { .. })), "{path}: {result:?}");
        }
    }
    let field = Field::with(|spec| spec.allowed.push("/dev".into()));
    for path in ["/dev/zero", "/dev/null", "/dev/tty"] {
        let result = field.read(Base::Workspace, path);
        assert!(matches!(result, Err(FileError::Special { .. })), "{path}: {result:?}");
    }
}

#[test]
fn yr_71_a_link_that_comes_and_goes_never_leads_out() {
    let field = Field::new();
    let (dir, away) = (field.at("project/workspace/d"), field.at("project/workspace/away"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("secret"), "mine").unwrap();
    let done = AtomicBool::new(false);
    let (mut read, mut refused, mut strange) = (0, 0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(&dir, &away).unwrap();
                // A writer may have been quicker, and made a directory where one is missing.
                if symlink(field.at("outside"), &dir).is_ok() {
                    fs::remove_file(&dir).unwrap();
                }
                while fs::rename(&away, &dir).is_err() {
                    let _ = fs::remove_dir_all(&dir);
                }
            }
        });
        // On a busy machine one of the two may be away for long.
        for round in 0..300_000 {
            if round >= 3_000 && read > 0 && refused > 0 {
                break;
            }
            match field.read(Base::Workspace, "d/secret") {
                Ok(found) if found.bytes == b"mine" => read += 1,
                Ok(found) => strange.push(found),
                Err(_) => refused += 1,
            }
            // Whether it succeeds depends on the moment.
            let _ = field.write(Base::Workspace, "d/new");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(strange.is_empty(), "{strange:?}");
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused: there was no race");
    let outside: Vec<_> = fs::read_dir(field.at("outside")).unwrap().map(Result::unwrap).collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
    assert_eq!(fs::read(field.at("outside/secret")).unwrap(), b"secret");
}

#[test]
fn yr_71_a_root_that_was_replaced_is_not_used() {
    let field = Field::new();
    let workspace = field.at("project/workspace");
    fs::rename(&workspace, field.at("project/old")).unwrap();
    symlink(field.at("outside"), &workspace).unwrap();
    assert_eq!(code(field.read(Base::Workspace, "secret")), "PL609");
    fs::remove_file(&workspace).unwrap();
    fs::create_dir(&workspace).unwrap();
    assert!(matches!(field.write(Base::Workspace, "x"), Err(FileError::Changed { .. })));
    assert_eq!(fs::read_dir(&workspace).unwrap().count(), 0);
}

#[test]
fn yr_70_bases_and_beginnings_that_are_not_doubled() {
    let field = Field::new();
    let project = fs::canonicalize(field.at("project")).unwrap();
    fs::create_dir(field.at("project/flows")).unwrap();
    fs::write(field.at("project/flows/part.md"), "part").unwrap();
    fs::write(field.at("project/flows/prompt.md"), "other").unwrap();
    fs::write(field.at("project/a.txt"), "of the project").unwrap();
    let flows = || Base::Document(project.join("flows"));
    let rows: Vec<(Base, &str, &str)> = vec![
        (Base::Reads, "a.txt", "workspace/a.txt"),
        (Base::Reads, "prompt.md", "prompt.md"),
        (Base::Reads, "workspace/a.txt", "workspace/a.txt"),
        (Base::Reads, "./workspace/a.txt", "workspace/a.txt"),
        (Base::Workspace, "./a.txt", "workspace/a.txt"),
        (Base::Project, "a.txt", "a.txt"),
        (flows(), "part.md", "flows/part.md"),
        (flows(), "prompt.md", "prompt.md"),
    ];
    for (base, path, file) in rows {
        let found = field.read(base.clone(), path).unwrap();
        assert_eq!(found.identity.path, project.join(file), "{base:?} {path}");
        let shadowed = (path == "prompt.md" && base == flows()
            || path == "a.txt" && base == Base::Reads)
            .then(|| {
                if base == Base::Reads {
                    project.join("a.txt")
                } else {
                    project.join("flows/prompt.md")
                }
            });
        assert_eq!(found.shadowed, shadowed, "{base:?} {path}");
    }
    for (base, path, file) in [
        (Base::Outputs, "r.txt", "outputs/r.txt"),
        (Base::Outputs, "outputs/r.txt", "outputs/r.txt"),
        (Base::Outputs, "./outputs/deep/er/r.txt", "outputs/deep/er/r.txt"),
        (Base::Workspace, "outputs/r.txt", "workspace/outputs/r.txt"),
        (Base::Checkpoints, "c.json", "checkpoints/c.json"),
    ] {
        let written = field.write(base.clone(), path).unwrap();
        assert_eq!(written.path, project.join(file), "{base:?} {path}");
        assert_eq!(fs::read(project.join(file)).unwrap(), b"new");
    }
}

#[test]
fn allowed_read_only_and_outside_reads() {
    let field = Field::with(|spec| {
        spec.allowed.push("../outside".into());
        spec.read_only.push("workspace/kept".into());
    });
    let secret = field.at("outside/secret").display().to_string();
    assert_eq!(field.read(Base::Reads, &secret).unwrap().bytes, b"secret");
    let new = field.at("outside/new").display().to_string();
    assert_eq!(code(field.write(Base::Workspace, &new)), "ok");
    fs::create_dir(field.at("project/workspace/kept")).unwrap();
    fs::write(field.at("project/workspace/kept/x"), "x").unwrap();
    assert_eq!(code(field.write(Base::Workspace, "kept/x")), "PL609");
    assert_eq!(code(field.access(|a| a.remove(&Base::Workspace, "kept", true))), "PL609");
    assert_eq!(code(field.read(Base::Workspace, "kept/x")), "ok");

    let field = Field::with(|spec| spec.read_anywhere = true);
    assert_eq!(code(field.read(Base::Project, "../outside/secret")), "ok");
    assert_eq!(code(field.write(Base::Workspace, "../../outside/secret")), "PL609");
}

#[test]
fn ys_90_a_file_is_replaced_whole_keeps_its_mode_and_is_left_alone_when_it_is_right() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let field = Field::new();
    let path = field.at("project/workspace/a.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    let twin = field.at("outside/twin");
    fs::hard_link(&path, &twin).unwrap();
    let first = field.write(Base::Workspace, "a.txt").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
    // The old file was replaced, not written: whoever holds it sees what it was.
    assert_eq!(fs::read(&twin).unwrap(), b"a");
    assert_eq!(first, field.write(Base::Workspace, "a.txt").unwrap());
    assert_eq!(first.inode, fs::metadata(&path).unwrap().ino());
    assert_eq!(first, field.read(Base::Workspace, "a.txt").unwrap().identity);
    // A writer that fails leaves the old content and nothing beside it.
    let failing = field.access(|access| {
        access.write_with(&Base::Workspace, "a.txt", None, |write| {
            write(b"half")?;
            Err(FileError::Stopped)
        })
    });
    assert_eq!(code(failing), "PL616");
    let names: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a.txt"]);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn what_the_system_refuses_is_told_and_leaves_nothing() {
    let field = Field::new();
    let long = "n".repeat(300);
    for path in [long.as_str(), "a.txt/below/a/file", "deep/", "prompt.md/"] {
        let before = field.everything();
        if path.ends_with('/') {
            fs::create_dir_all(field.at("project/workspace").join(path)).unwrap();
            assert_eq!(code(field.write(Base::Workspace, path)), "PL601", "{path}");
            continue;
        }
        assert_eq!(code(field.write(Base::Workspace, path)), "PL601", "{path}");
        assert_eq!(field.everything(), before);
    }
    let directories = ChosenDirectories {
        workspace: Some("prompt.md/below".into()),
        ..ChosenDirectories::default()
    };
    let made = directories.resolve(&field.at("project")).make();
    assert_eq!(code(made), "PL610");
}

#[test]
fn directories_of_the_run_are_not_removed_and_others_only_whole_when_asked() {
    let field = Field::new();
    fs::create_dir_all(field.at("project/workspace/d/e")).unwrap();
    fs::write(field.at("project/workspace/d/e/f"), "f").unwrap();
    symlink(field.at("outside"), field.at("project/workspace/d/link")).unwrap();
    let remove =
        |path: &str, recursive| field.access(|a| a.remove(&Base::Workspace, path, recursive));
    for path in [".", "workspace", "d/../../workspace", "../outputs"] {
        assert_eq!(code(remove(path, true)), "PL609", "{path}");
    }
    assert_eq!(code(remove("d", false)), "PL601");
    assert_eq!(remove("d", true).unwrap(), 4);
    assert!(field.at("outside/secret").exists());
    assert_eq!(remove("a.txt", false).unwrap(), 1);
    assert_eq!(code(remove("a.txt", false)), "PL601");
}

#[test]
fn globs_find_files_in_the_workspace_first() {
    let field = Field::new();
    for path in ["src/a.rs", "src/deep/b.rs", "src/.hidden.rs", "c.md", "d.txt"] {
        let path = field.at("project/workspace").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    symlink(field.at("outside"), field.at("project/workspace/src/link")).unwrap();
    for (pattern, expected) in [
        ("*.txt", vec!["a.txt", "d.txt"]),
        ("./*.txt", vec!["a.txt", "d.txt"]),
        ("src/*.rs", vec!["src/a.rs"]),
        ("src/**/*.rs", vec!["src/a.rs", "src/deep/b.rs"]),
        ("**/{a,b}.rs", vec!["src/a.rs", "src/deep/b.rs"]),
        ("src/.*", vec!["src/.hidden.rs"]),
        ("src/link/*", vec![]),
        ("nothing/*", vec![]),
        ("p*.md", vec!["prompt.md"]),
        ("[cd].*", vec!["c.md", "d.txt"]),
    ] {
        let found = field.access(|access| access.glob(&Base::Reads, pattern));
        let found: Vec<String> = match found {
            Ok(found) => found.into_iter().map(|found| found.path).collect(),
            // A link that leads out may say so.
            Err(error) => {
                assert_eq!((pattern, error.code()), ("src/link/*", "PL609"));
                continue;
            }
        };
        assert_eq!(found, expected, "{pattern}");
    }
    assert_eq!(code(field.access(|access| access.glob(&Base::Reads, "a[")).map(drop)), "PL406");
    assert_eq!(
        code(field.access(|access| access.glob(&Base::Reads, "../../**")).map(drop)),
        "PL609"
    );
}

#[test]
fn c_31_and_c_29_directories_come_from_the_strongest_that_speaks_and_are_made() {
    let environment = ChosenDirectories::from_environment(|name| match name {
        "PERENNIAL_WORKSPACE_DIR" => Some("env/ws".to_owned()),
        "PIPELINE_WORKSPACE_DIR" => Some("older".to_owned()),
        "PIPELINE_OUTPUT_DIR" => Some("env/out".to_owned()),
        "PERENNIAL_OUTPUT_DIR" => Some(String::new()),
        "PIPELINE_NESTED_WORKSPACE_ROOT" => Some("env/nested".to_owned()),
        _ => None,
    });
    let document = ChosenDirectories {
        outputs: Some("./doc/out".into()),
        checkpoints: Some("doc/cp".into()),
        ..ChosenDirectories::default()
    };
    let option =
        ChosenDirectories { checkpoints: Some("opt/cp".into()), ..ChosenDirectories::default() };
    let top = TempDir::new().unwrap();
    let directories = option.over(document).over(environment).resolve(top.path());
    let at = |path: &str| top.path().join(path);
    assert_eq!(directories.workspace, at("env/ws"));
    assert_eq!(directories.outputs, at("doc/out"));
    assert_eq!(directories.checkpoints, at("opt/cp"));
    assert_eq!(directories.project_root, top.path());
    assert_eq!(directories.nested_workspaces(), at("env/nested"));
    directories.make().unwrap();
    assert!(["env/ws", "doc/out", "opt/cp"].iter().all(|path| at(path).is_dir()));
    let usual = ChosenDirectories::default().resolve(Path::new("/p"));
    assert_eq!(usual.workspace, Path::new("/p/workspace"));
    assert_eq!(usual.nested_workspaces(), Path::new("/p/nested_workspaces"));
}

#[tokio::test]
async fn work_on_files_ends_when_nobody_waits_for_it() {
    let field = Field::new();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let work = field.files.perform(move |access| {
        told.send(None).unwrap();
        let ended = loop {
            if let Err(error) = access.go_on() {
                break error;
            }
            std::thread::yield_now();
        };
        told.send(Some(ended.code())).unwrap();
        Err::<(), _>(ended)
    });
    tokio::select! {
        _ = work => panic!("nobody told it to end"),
        started = heard.recv() => assert_eq!(started, Some(None)),
    }
    assert_eq!(heard.recv().await, Some(Some("PL616")));
}

/// YR-71: a directory of the run that leads elsewhere than it did is neither made nor opened.
#[test]
fn what_was_put_in_the_place_of_a_directory_of_the_run_is_not_opened() {
    let top = TempDir::new().unwrap();
    let project = top.path().join("project");
    fs::create_dir_all(top.path().join("outside")).unwrap();
    let mut spec = RootsSpec::new(ChosenDirectories::default().resolve(&project));
    spec.allowed.push("more".into());
    spec.led = spec.leads().unwrap();
    spec.directories.make().unwrap();
    fs::create_dir(project.join("more")).unwrap();
    assert!(spec.check_unmoved().is_ok() && Files::open(spec.clone()).is_ok());
    for name in ["workspace", "outputs", "checkpoints", "nested_workspaces", "more", ""] {
        let (place, kept) = (project.join(name), top.path().join("kept"));
        let was_there = fs::rename(&place, &kept).is_ok();
        for target in ["outside", "nowhere"] {
            let target = top.path().join(target);
            let place = Path::new(place.to_str().unwrap().trim_end_matches('/'));
            symlink(&target, place).unwrap();
            let refused = spec.check_unmoved().unwrap_err();
            assert_eq!((refused.code(), refused.class()), ("PL609", FailureClass::Path));
            let FileError::Moved { path, leads, .. } = &refused else { panic!("{refused}") };
            assert!(path.starts_with(place) && leads.starts_with(&target), "{refused}");
            assert!(Files::open(spec.clone()).is_err(), "{refused}");
            assert!(!top.path().join("nowhere").exists(), "{refused}");
            fs::remove_file(place).unwrap();
        }
        if was_there {
            fs::rename(&kept, &place).unwrap();
        }
        assert!(spec.check_unmoved().is_ok(), "{name}");
    }
}

/// What is done on a thread of its own, in real time: a paused clock waits for such threads.
///
/// Proves B44.
#[tokio::test]
async fn an_error_of_blocking_work_comes_as_it_is_and_a_time_out_is_an_error_of_its_own() {
    let shown = "x".to_owned();
    let refused = off_thread::<u32>(move |_| Err(FileError::Base { shown })).await.unwrap_err();
    assert!(matches!(&refused, FileError::Base { shown } if shown == "x"), "{refused}");
    let clock = perennial_supervision::Clock::start();
    let deadline = clock.now() + std::time::Duration::from_millis(20);
    let judge = |_: &FileError| crate::protection::Judged::of(FailureClass::Io);
    let (told, halted) = std::sync::mpsc::channel();
    let guarded = crate::protection::Guarded::new(clock);
    let late = guarded.call("o", &[], deadline, judge, async |_| {
        let told = told.clone();
        // Works until nobody waits for it any more.
        off_thread::<u32>(move |halt| {
            while halt.check().is_ok() {
                std::thread::yield_now();
            }
            // The test may have given up.
            let _ = told.send(());
            Ok(0)
        })
        .await
    });
    let late = late.await.unwrap_err();
    assert!(matches!(late, crate::protection::GuardedError::TimedOut { attempts: 1 }), "{late}");
    assert_eq!(halted.recv_timeout(std::time::Duration::from_secs(30)), Ok(()));
}
