//! `file_ops`, operation by operation (2.15).

use serde_json::{Value, json};

use crate::folder::Folder;

/// Runs one step with these keys; answers its record.
async fn step(folder: &Folder, keys: Value) -> Value {
    let mut step = json!({ "name": "s", "type": "file_ops" });
    step.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let document = json!({ "workflow": { "name": "w", "language": 1, "steps": [step] } });
    folder.run(&document.to_string()).await.remove("s").unwrap()
}

fn field() -> Folder {
    let folder = Folder::new();
    for (path, text) in [
        ("workspace/a.txt", "a"),
        ("workspace/b.txt", "bb"),
        ("workspace/c.md", "ccc"),
        ("workspace/.hidden", ""),
        ("workspace/dir/d.txt", "d"),
        ("workspace/dir/deep/e.txt", "e"),
        ("project.txt", "of the project"),
    ] {
        folder.write(path, text);
    }
    folder
}

fn message(record: &Value) -> &str {
    record["error"]["message"].as_str().unwrap_or_else(|| panic!("{record}"))
}

#[tokio::test]
async fn c_141_copy_and_move_files_and_directories() {
    let folder = field();
    let record =
        step(&folder, json!({"operation": "copy", "source": "a.txt", "destination": "x/y.txt"}))
            .await;
    assert_eq!(
        record,
        json!({"operation": "copy", "source": "a.txt", "destination": "x/y.txt", "status": "completed"})
    );
    assert_eq!(folder.text("workspace/x/y.txt"), "a");
    step(&folder, json!({"operation": "copy", "source": "dir", "destination": "tree"})).await;
    assert_eq!(folder.text("workspace/tree/deep/e.txt"), "e");
    step(&folder, json!({"operation": "copy", "source": "project.txt", "destination": "dir"}))
        .await;
    assert_eq!(folder.text("workspace/dir/project.txt"), "of the project");
    step(&folder, json!({"operation": "copy", "source": "workspace/a.txt", "destination": "./workspace/w.txt"})).await;
    assert_eq!(folder.text("workspace/w.txt"), "a");

    let record = step(
        &folder,
        json!({"operation": "copy", "source": "dir/**/*.txt", "destination": "flat"}),
    )
    .await;
    assert_eq!(record["count"], 3);
    assert_eq!(record["files"], json!(["flat/d.txt", "flat/e.txt", "flat/project.txt"]));
    let options = json!({"preserve_structure": true});
    let record = step(
        &folder,
        json!({"operation": "copy", "source": {"pattern": "dir/**/*.txt", "exclude": ["project*"]},
               "destination": "kept", "options": options}),
    )
    .await;
    assert_eq!(record["files"], json!(["kept/d.txt", "kept/deep/e.txt"]));

    step(
        &folder,
        json!({"operation": "move", "source": ["a.txt", "b.txt"], "destination": "moved"}),
    )
    .await;
    assert_eq!(folder.text("workspace/moved/b.txt"), "bb");
    assert!(!folder.at("workspace/a.txt").exists());
    step(&folder, json!({"operation": "move", "source": "dir", "destination": "elsewhere/dir"}))
        .await;
    assert_eq!(folder.text("workspace/elsewhere/dir/deep/e.txt"), "e");
    assert!(!folder.at("workspace/dir").exists());
}

#[tokio::test]
async fn c_141_c_147_what_cannot_be_copied_or_moved_is_told_and_nothing_is_touched() {
    let folder = field();
    folder.write("outside-of-it/x", "x");
    let before = folder.entries();
    let rows = [
        (
            json!({"operation": "copy", "source": "no.txt", "destination": "x"}),
            "PL601",
            "Source file does not exist: no.txt",
        ),
        (
            json!({"operation": "move", "source": "no*.txt", "destination": "x"}),
            "PL601",
            "Source file does not exist: no*.txt",
        ),
        (
            json!({"operation": "copy", "source": ".", "destination": "dir/deep/all"}),
            "PL601",
            "Copy failed: dir/deep/all lies inside of .",
        ),
        (
            json!({"operation": "copy", "source": ["a.txt", "dir"], "destination": "dir/deep"}),
            "PL601",
            "Copy failed: dir/deep/dir lies inside of dir",
        ),
        (
            json!({"operation": "move", "source": "dir", "destination": "dir/deep/er"}),
            "PL601",
            "Move failed: dir/deep/er lies inside of dir",
        ),
        (
            json!({"operation": "copy", "source": "../../x", "destination": "x"}),
            "PL609",
            "Copy failed: ",
        ),
        (
            json!({"operation": "copy", "source": "a.txt", "destination": "../x"}),
            "PL609",
            "Copy failed: ",
        ),
        (
            json!({"operation": "copy", "source": ["a.txt", "b.txt"], "destination": "../x"}),
            "PL609",
            "Copy failed: ",
        ),
        (
            json!({"operation": "move", "source": "project.txt", "destination": "x"}),
            "PL609",
            "Move failed: ",
        ),
        (
            json!({"operation": "move", "source": "../workspace", "destination": "x"}),
            "PL609",
            "Move failed: ",
        ),
        (
            json!({"operation": "copy", "source": "a.txt", "destination": "/etc/x"}),
            "PL609",
            "Copy failed: ",
        ),
        (
            json!({"operation": "copy", "source": ["a.txt", "dir/../a.txt"], "destination": "x"}),
            "PL601",
            "Copy failed: two sources",
        ),
        (
            json!({"operation": "copy", "source": "a.txt", "destination": "b.txt", "options": {"overwrite": false}}),
            "PL601",
            "Copy failed: b.txt exists",
        ),
        (
            json!({"operation": "copy", "source": "a.txt", "destination": "n/b.txt", "options": {"create_destination": false}}),
            "PL601",
            "Copy failed: n does not exist",
        ),
        (json!({"operation": "delete", "path": "no.txt"}), "PL601", "Path does not exist: no.txt"),
        (json!({"operation": "delete", "path": "dir"}), "PL601", "Delete failed: "),
        (
            json!({"operation": "delete", "path": ".", "recursive": true}),
            "PL609",
            "Delete failed: ",
        ),
        (
            json!({"operation": "delete", "path": "../outputs", "recursive": true}),
            "PL609",
            "Delete failed: ",
        ),
        (json!({"operation": "delete", "path": "../project.txt"}), "PL609", "Delete failed: "),
        (json!({"operation": "list", "path": "no"}), "PL601", "Path does not exist"),
        (json!({"operation": "list", "path": "a.txt"}), "PL601", "Path is not a directory"),
        (json!({"operation": "write", "path": "../x", "content": 1}), "PL609", "Write failed: "),
        (json!({"operation": "read", "path": "../../x"}), "PL609", "Read failed: "),
        (json!({"operation": "read", "path": "a.txt", "format": "json"}), "PL601", "Read failed: "),
        (
            json!({"operation": "convert", "source": "a.txt", "destination": "x", "format": "xml_to_json"}),
            "PL601",
            "Conversion failed: ",
        ),
        (
            json!({"operation": "stream_process", "source": "no", "processor": "trim"}),
            "PL601",
            "Stream processing failed: ",
        ),
        (json!({"operation": "read", "path": "{{ '' }}"}), "PL605", "path must be a path"),
        (json!({"operation": "read", "path": "{{ null }}"}), "PL605", "path must be a path"),
        (
            json!({"operation": "convert", "source": "a.txt", "destination": "x", "format": "{{ 'a_to_b' }}"}),
            "PL601",
            "Unsupported format conversion: a_to_b",
        ),
    ];
    for (keys, code, text) in rows {
        let record = step(&folder, keys.clone()).await;
        assert_eq!(record["error"]["code"], code, "{keys}: {record}");
        assert!(message(&record).starts_with(text), "{keys}: {}", message(&record));
        assert_eq!(folder.entries(), before, "{keys}");
    }
}

#[tokio::test]
async fn ys_90_a_copy_of_several_that_fails_midway_tells_what_was_done() {
    let folder = field();
    std::os::unix::fs::symlink("/etc/hostname", folder.at("workspace/bad.txt")).unwrap();
    folder.write("workspace/x/c.md/in the way", "");
    let keys =
        json!({"operation": "copy", "source": ["a.txt", "c.md", "b.txt"], "destination": "x"});
    let record = step(&folder, keys).await;
    assert!(message(&record).starts_with("Copy failed: "), "{record}");
    assert_eq!(record["error"]["cause"], json!({"done": ["a.txt"], "undone": ["c.md", "b.txt"]}));
    assert_eq!(folder.text("workspace/x/a.txt"), "a");
}

/// C-141.
#[tokio::test]
async fn delete_of_files_globs_and_directories() {
    let folder = field();
    let record = step(&folder, json!({"operation": "delete", "path": "a.txt"})).await;
    assert_eq!(
        record,
        json!({"operation": "delete", "path": "a.txt", "status": "completed", "count": 1})
    );
    let record =
        step(&folder, json!({"operation": "delete", "path": "dir", "recursive": true})).await;
    assert_eq!(record["count"], 4);
    let record = step(&folder, json!({"operation": "delete", "files": ["*.md", "b.txt"]})).await;
    assert_eq!(record["count"], 2);
    assert_eq!(folder.entries(), ["project.txt", "workspace/.hidden"]);
}

#[tokio::test]
async fn c_143_list_by_glob_and_by_regular_expression() {
    let folder = field();
    for (keys, files) in [
        (json!({"path": "."}), vec!["a.txt", "b.txt", "c.md"]),
        (json!({"path": ".", "pattern": r"\.txt$"}), vec!["a.txt", "b.txt"]),
        (json!({"path": ".", "pattern": "*.txt"}), vec!["a.txt", "b.txt"]),
        (json!({"path": ".", "pattern": "*.{md,rs}"}), vec!["c.md"]),
        (
            json!({"path": ".", "pattern": ".*[ab].*", "pattern_type": "regex"}),
            vec!["a.txt", "b.txt"],
        ),
        (json!({"path": ".", "pattern": "[ab]", "pattern_type": "regex"}), vec!["a.txt", "b.txt"]),
        (json!({"path": "dir", "recursive": true}), vec!["dir/d.txt", "dir/deep/e.txt"]),
        (json!({"path": ".", "recursive": true, "pattern": "dir/*/*.txt"}), vec!["dir/deep/e.txt"]),
        (json!({"path": ".", "include_hidden": true, "limit": 2}), vec![".hidden", "a.txt"]),
        (json!({"path": ".", "sort_by": "size", "pattern": "*.*"}), vec!["a.txt", "b.txt", "c.md"]),
    ] {
        let mut keys = keys;
        keys["operation"] = json!("list");
        keys["output_field"] = json!("found");
        let record = step(&folder, keys.clone()).await;
        assert_eq!(record["files"], json!(files), "{keys}");
        assert_eq!(record["found"], json!(files), "{keys}");
        assert_eq!(record["count"], files.len(), "{keys}");
    }
    let record = step(&folder, json!({"operation": "list", "path": "."})).await;
    let entry = &record["entries"][1];
    assert_eq!(
        (&entry["name"], &entry["size"], &entry["type"]),
        (&json!("b.txt"), &json!(2), &json!("file"))
    );
    assert!(entry["modified"].as_str().unwrap().ends_with('Z'), "{entry}");
}

#[tokio::test]
async fn validate_checks_all_and_then_judges() {
    let folder = field();
    folder.write("workspace/good.json", "{}");
    let keys = json!({"operation": "validate", "files": [
        {"path": "a.txt", "must_be_file": true, "min_size": 1, "max_size": 1, "must_be_readable": true, "must_be_writable": true},
        {"path": "dir", "must_be_dir": true, "must_contain": ["d.txt", "deep"]},
        {"path": "no.txt", "must_exist": false},
        {"pattern": "*.txt", "must_be_file": true},
        {"path": "good.json", "validate_json": true},
    ]});
    let record = step(&folder, keys).await;
    assert_eq!(
        (&record["status"], &record["results"][1]["status"]),
        (&json!("all_valid"), &json!("valid"))
    );
    let keys = json!({"operation": "validate", "files": [
        {"path": "no.txt"},
        {"path": "a.txt", "must_be_dir": true, "min_size": 9, "validate_json": true},
        {"path": "b.txt", "must_exist": false},
        {"path": "dir", "must_contain": ["no"], "must_be_file": true},
        {"path": "c.md"},
    ]});
    let record = step(&folder, keys).await;
    assert_eq!(record["error"]["code"], "PL618");
    let text = message(&record);
    assert!(
        text.starts_with("Validation failed for 4 file(s): no.txt: does not exist; "),
        "{text}"
    );
    for fault in [
        "a.txt: is not a directory",
        "has 1 bytes, fewer than 9",
        "a.txt: is not JSON",
        "b.txt: exists",
        "dir: does not contain no",
        "dir: is not a file",
    ] {
        assert!(text.contains(fault), "{fault}: {text}");
    }
}

#[tokio::test]
async fn c_145_conversions() {
    let rows = [
        (
            "csv_to_json",
            "n,t\n1,\"a,\"\"b\"\"\"\n2\n",
            json!({}),
            "[{\"n\":\"1\",\"t\":\"a,\\\"b\\\"\"},{\"n\":\"2\",\"t\":null}]",
        ),
        (
            "csv_to_json",
            "n;t\n1;true\n;x\n",
            json!({"csv_delimiter": ";", "infer_types": true}),
            "[{\"n\":1,\"t\":true},{\"n\":null,\"t\":\"x\"}]",
        ),
        ("csv_to_json", "a,b\nc\n", json!({"csv_headers": false}), "[[\"a\",\"b\"],[\"c\"]]"),
        (
            "json_to_csv",
            r#"[{"b": "x,y", "a": 1}, {"c": null, "a": [1]}]"#,
            json!({}),
            "b,a,c\n\"x,y\",1,\n,[1],\n",
        ),
        (
            "yaml_to_json",
            "a: [1, yes]\nb:\n  c: null\n",
            json!({}),
            "{\"a\":[1,\"yes\"],\"b\":{\"c\":null}}",
        ),
        (
            "json_to_yaml",
            r#"{"a": [1, {"b": "yes", "c": []}], "d": {"e": "x: y"}, "f": "plain text"}"#,
            json!({}),
            "a:\n  - 1\n  -\n    b: \"yes\"\n    c: []\nd:\n  e: \"x: y\"\nf: plain text\n",
        ),
        (
            "xml_to_json",
            "<?xml version='1.0'?><r a='1'><i>x &amp; y</i><i/>t<!-- no --><j><![CDATA[<z>]]></j></r>",
            json!({}),
            "{\"r\":{\"@a\":\"1\",\"i\":[\"x & y\",null],\"j\":\"<z>\",\"#text\":\"t\"}}",
        ),
        (
            "json_to_xml",
            r#"{"r": {"@a": "1", "i": ["x & y", null], "j": {"k": 2}}}"#,
            json!({}),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<r a=\"1\">\n  <i>x &amp; y</i>\n  <i></i>\n  <j>\n    <k>2</k>\n  </j>\n</r>\n",
        ),
    ];
    for (format, from, options, to) in rows {
        let folder = Folder::new();
        folder.write("workspace/from", from);
        let mut options = options;
        options["json_indent"] = json!(0);
        let keys = json!({"operation": "convert", "source": "from", "destination": "to", "format": format, "options": options});
        let record = step(&folder, keys).await;
        assert_eq!(record["status"], "completed", "{format}: {record}");
        assert_eq!(folder.text("workspace/to"), to, "{format}");
    }
    for (format, from) in [
        ("csv_to_json", "a\n1,2\n"),
        ("json_to_csv", "{}"),
        ("json_to_yaml", "{"),
        ("yaml_to_json", "a: [\n"),
        ("xml_to_json", "<a><b></a>"),
        ("xml_to_json", "<a/><b/>"),
        ("xml_to_json", "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"),
        ("json_to_xml", r#"{"a b": 1}"#),
    ] {
        let folder = Folder::new();
        folder.write("workspace/from", from);
        let keys = json!({"operation": "convert", "source": "from", "destination": "to", "format": format});
        let record = step(&folder, keys).await;
        assert!(
            message(&record).starts_with("Conversion failed: from: "),
            "{format} {from}: {record}"
        );
        assert_eq!(folder.entries(), ["workspace/from"]);
    }
}

#[tokio::test]
async fn streams_read_and_write() {
    let folder = field();
    folder.write("workspace/lines", "one\r\n  Two \nthree");
    for (processor, expected) in [
        (json!("identity"), "one\r\n  Two \nthree"),
        (json!("uppercase"), "ONE\r\n  TWO \nTHREE"),
        (json!({"type": "trim"}), "one\r\nTwo\nthree"),
        (
            json!({"replace": {"pattern": "(o|e)$", "replacement": "<$1>"}}),
            "on<e>\r\n  Two \nthre<e>",
        ),
        (json!({"type": "replace", "pattern": "T", "replacement": "t"}), "one\r\n  two \nthree"),
    ] {
        let keys = json!({"operation": "stream_process", "source": "lines", "destination": "out", "processor": processor});
        let record = step(&folder, keys).await;
        assert_eq!(record["processed_path"], "out");
        assert_eq!(folder.text("workspace/out"), expected);
    }
    step(
        &folder,
        json!({"operation": "stream_process", "source": "lines", "processor": "lowercase"}),
    )
    .await;
    assert_eq!(folder.text("workspace/lines"), "one\r\n  two \nthree");
    let record =
        step(&folder, json!({"operation": "stream_copy", "source": "a.txt", "destination": "s"}))
            .await;
    assert_eq!(record["method"], "copy");
    folder.write("workspace/big", &"x".repeat(10_000_001));
    let record =
        step(&folder, json!({"operation": "stream_copy", "source": "big", "destination": "s"}))
            .await;
    assert_eq!(
        (&record["method"], folder.text("workspace/s").len()),
        (&json!("streaming"), 10_000_001)
    );

    let record = step(
        &folder,
        json!({"operation": "write", "path": "n/w.json", "content": {"a": "{{ 1 + 1 }}"}}),
    )
    .await;
    assert_eq!(record["bytes"], folder.text("workspace/n/w.json").len());
    let record =
        step(&folder, json!({"operation": "read", "path": "n/w.json", "format": "json"})).await;
    assert_eq!(record["content"], json!({"a": 2}));
    step(&folder, json!({"operation": "write", "path": "log", "content": "one\n", "append": true}))
        .await;
    step(&folder, json!({"operation": "write", "path": "log", "content": "two\n", "append": true}))
        .await;
    assert_eq!(folder.text("workspace/log"), "one\ntwo\n");
}

#[tokio::test]
async fn a_dry_run_tells_and_touches_nothing() {
    let folder = field();
    let before = folder.entries();
    for mut keys in [
        json!({"operation": "copy", "source": "*.txt", "destination": "x"}),
        json!({"operation": "move", "source": "dir", "destination": "x"}),
        json!({"operation": "delete", "path": "dir", "recursive": true}),
        json!({"operation": "write", "path": "x", "content": "x"}),
        json!({"operation": "stream_process", "source": "a.txt", "processor": "uppercase"}),
        json!({"operation": "convert", "source": "dir/d.txt", "destination": "x", "format": "yaml_to_json"}),
    ] {
        keys["options"] = json!({"dry_run": true});
        let record = step(&folder, keys.clone()).await;
        assert_eq!(record["dry_run"], true, "{keys}: {record}");
        assert!(!record["would"].as_array().unwrap().is_empty(), "{keys}");
        assert_eq!(folder.entries(), before, "{keys}");
        assert_eq!(folder.text("workspace/a.txt"), "a");
    }
}

/// An attempt that died behind its change and before its commit is made again, with what was journaled.
#[tokio::test]
async fn ys_90_what_was_done_is_not_done_twice() {
    for (keys, changed) in [
        (
            json!({"operation": "move", "source": ["a.txt", "dir"], "destination": "x"}),
            "workspace/x/a.txt",
        ),
        (json!({"operation": "delete", "path": "dir", "recursive": true}), "project.txt"),
        (
            json!({"operation": "write", "path": "a.txt", "content": "+", "append": true}),
            "workspace/a.txt",
        ),
        (
            json!({"operation": "stream_process", "source": "a.txt", "processor": {"replace": {"pattern": "a", "replacement": "aa"}}}),
            "workspace/a.txt",
        ),
        (
            json!({"operation": "copy", "source": "a.txt", "destination": "x.txt"}),
            "workspace/x.txt",
        ),
    ] {
        let folder = field();
        let first = step(&folder, keys.clone()).await;
        let (entries, text) = (folder.entries(), folder.text(changed));
        folder.keep_journal();
        let again = step(&folder, keys.clone()).await;
        assert_eq!(again["status"], "completed", "{keys}: {again}");
        assert_eq!((folder.entries(), folder.text(changed)), (entries, text), "{keys}");
        if keys["operation"] != "delete" {
            assert_eq!(again, first, "{keys}");
        }
    }
}
