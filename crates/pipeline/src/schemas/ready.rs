//! Schemas that are there by name (YR-69).

use serde_json::{Value, json};

/// Their names, in order.
pub(crate) const NAMES: [&str; 6] = [
    "analysis_result",
    "api_response",
    "code_analysis",
    "documentation",
    "file_operation",
    "test_results",
];

/// The schema of this name.
pub(crate) fn ready_made(name: &str) -> Option<Value> {
    let (required, properties) = match name {
        "analysis_result" => (&["analysis", "score"][..], analysis_result()),
        "api_response" => (&["status_code", "success"][..], api_response()),
        "code_analysis" => (&["files_analyzed", "issues", "metrics"][..], code_analysis()),
        "documentation" => (&["sections"][..], documentation()),
        "file_operation" => (&["operation"][..], file_operation()),
        "test_results" => (&["total_tests", "passed", "failed", "status"][..], test_results()),
        _ => return None,
    };
    Some(json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    }))
}

fn analysis_result() -> Value {
    json!({
        "analysis": { "type": "string", "minLength": 10 },
        "score": { "type": "number", "minimum": 0, "maximum": 10 },
        "summary": { "type": "string", "maxLength": 500 },
        "recommendations": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["priority", "action"],
                "properties": {
                    "priority": { "enum": ["high", "medium", "low"] },
                    "action": { "type": "string", "minLength": 5 },
                    "rationale": { "type": "string" },
                    "effort": { "type": "string" },
                },
            },
        },
        "confidence": { "type": "number", "minimum": 0, "maximum": 1 },
    })
}

fn api_response() -> Value {
    json!({
        "status_code": { "type": "integer", "minimum": 100, "maximum": 599 },
        "success": { "type": "boolean" },
        "message": { "type": "string" },
        "headers": { "type": "object" },
        "data": {},
        "error": {},
    })
}

fn code_analysis() -> Value {
    json!({
        "files_analyzed": { "type": "integer", "minimum": 0 },
        "issues": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["file", "severity", "message"],
                "properties": {
                    "file": { "type": "string" },
                    "line": { "type": "integer", "minimum": 1 },
                    "severity": { "enum": ["error", "warning", "info"] },
                    "message": { "type": "string" },
                },
            },
        },
        "metrics": { "type": "object" },
        "overall_quality": { "type": ["string", "number"] },
    })
}

fn documentation() -> Value {
    json!({
        "title": { "type": "string" },
        "sections": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["title", "content"],
                "properties": { "title": { "type": "string" }, "content": { "type": "string" } },
            },
        },
        "total_pages": { "type": "integer", "minimum": 0 },
    })
}

/// The records of `file_ops` steps satisfy it, but for those that hold the content of a file.
fn file_operation() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": ["string", "array"] });
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "operation": text,
        "path": texts,
        "source": texts,
        "destination": text,
        "files": { "type": "array" },
        "entries": { "type": "array" },
        "results": { "type": "array" },
        "count": count,
        "bytes": count,
        "pattern": text,
        "format": text,
        "method": text,
        "processor": {},
        "processed_path": text,
        "dry_run": { "type": "boolean" },
        "would": {},
        "message": text,
    })
}

fn test_results() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "total_tests": count,
        "passed": count,
        "failed": count,
        "skipped": count,
        "status": { "enum": ["passed", "failed", "partial"] },
        "failures": { "type": "array" },
    })
}
