//! The document against itself, the table of operations and the table of errors. That the examples fit the schemas, and the
//! server the document, is seen by `tests/schemathesis`.

use std::collections::{BTreeSet, HashMap};

use countersign_protocol::error::ERROR_TABLE;
use serde_json::Value;

use super::*;
use crate::route::ROWS;

fn document_value() -> Value {
    serde_json::from_slice(&document(ROWS, "")).expect("the document is JSON")
}

/// Each operation with its path and method.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("an object");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item
                .as_object()
                .expect("an object")
                .iter()
                .filter(|(method, _)| *method != "servers");
            methods.map(move |(method, operation)| {
                (format!("{} {path}", method.to_uppercase()), operation)
            })
        })
        .collect()
}

fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        _ => {}
    }
}

#[test]
fn every_operation_of_the_table_is_described() {
    let document = document_value();
    let described: BTreeSet<String> = operations(&document)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let apart = [
        "Root",
        "Swagger",
        "SwaggerAsset",
        "Metrics",
        "ListInstances",
        "CreateInstance",
    ];
    let expected: BTreeSet<String> = ROWS
        .iter()
        .filter(|row| !apart.contains(&row.name))
        .map(|row| format!("{} {}", row.method, row.path))
        .collect();
    assert_eq!(described, expected);
}

#[test]
fn every_description_is_whole() {
    let document = document_value();
    let tags: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(
            ids.insert(operation["operationId"].as_str().expect("an id").to_owned()),
            "{name}: its id is taken"
        );
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{name}: no summary"
        );
        assert!(
            operation["description"]
                .as_str()
                .is_some_and(|text| text.len() > 20),
            "{name}: no description"
        );
        assert!(
            tags.contains(&operation["tags"][0].as_str().expect("a tag")),
            "{name}: an unknown tag"
        );
        for (status, answer) in operation["responses"].as_object().expect("an object") {
            for (kind, content) in answer["content"].as_object().expect("content") {
                let has_example = content.get("example").is_some()
                    || content["examples"]
                        .as_object()
                        .is_some_and(|examples| !examples.is_empty());
                assert!(
                    has_example || name == "GET /openapi.json",
                    "{name} {status} {kind}: no example"
                );
            }
        }
        if let Some(body) = operation.get("requestBody") {
            assert!(
                !body["content"]["application/json"]["examples"]
                    .as_object()
                    .expect("examples")
                    .is_empty(),
                "{name}"
            );
        }
        let captured = name.matches('{').count();
        let in_path = |parameter: &&Value| parameter["in"] == "path";
        let declared = operation["parameters"]
            .as_array()
            .map_or(0, |all| all.iter().filter(in_path).count());
        assert_eq!(captured, declared, "{name}: the parameters of the path");
    }
}

#[test]
fn every_error_example_has_a_code_of_the_table_under_its_status() {
    let document = document_value();
    let statuses: HashMap<&str, String> = ERROR_TABLE
        .iter()
        .map(|row| (row.name, row.status.to_string()))
        .collect();
    let mut seen = BTreeSet::new();
    for (name, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().expect("an object") {
            let content = &answer["content"]["application/json"];
            if content["schema"]["$ref"] != "#/components/schemas/Errors" {
                assert!(status.starts_with('2'), "{name} {status}: not the envelope");
                continue;
            }
            for (example, value) in content["examples"].as_object().expect("examples") {
                let error = &value["value"]["errors"][0];
                let code = error["code"].as_str().expect("a code");
                assert_eq!(
                    statuses.get(code),
                    Some(status),
                    "{name} {status} {example}"
                );
                assert!(
                    example.starts_with(code),
                    "{name} {status} {example}: named after another code"
                );
                assert!(!error["message"].as_str().expect("a text").is_empty());
                assert!(!error["long_message"].as_str().expect("a text").is_empty());
                seen.insert(code);
            }
        }
    }
    // What is refused before an operation is found stands in the introduction only.
    let before = [
        "method_not_allowed",
        "uri_too_long",
        "request_header_fields_too_large",
    ];
    let all: BTreeSet<&str> = statuses
        .keys()
        .copied()
        .filter(|code| !before.contains(code))
        .collect();
    assert_eq!(seen, all);
}

#[test]
fn examples_of_one_answer_have_different_names_and_members_stand_once() {
    // Refuses what stands twice; where examples are put together, `named` does.
    let text = document(ROWS, "");
    let document: &serde_json::value::RawValue = serde_json::from_slice(&text).expect("JSON");
    countersign_protocol::json::check(document).expect("each member stands once");
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document_value();
    let mut references = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            references.insert(reference.to_owned());
        }
    });
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for kind in ["schemas", "headers"] {
        for name in document["components"][kind]
            .as_object()
            .expect("an object")
            .keys()
        {
            assert!(
                references.contains(&format!("#/components/{kind}/{name}")),
                "{kind}/{name} is not used"
            );
        }
    }
}

#[test]
fn bounds_are_those_of_the_protocol() {
    let document = document_value();
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["CreateMachine"]["properties"]["name"]["maxLength"],
        255
    );
    assert_eq!(
        schemas["CreateMachine"]["properties"]["scoped_machines"]["maxItems"],
        150
    );
    assert_eq!(
        schemas["CreateM2MToken"]["properties"]["seconds_until_expiration"]["maximum"],
        315_360_000
    );
    assert_eq!(
        schemas["RotateMachineSecretKey"]["properties"]["previous_token_ttl"]["maximum"],
        28_800
    );
}

#[test]
fn contract_paths_stand_under_v1_and_public_ones_under_the_root() {
    let document = document_value();
    assert_eq!(document["servers"][0]["url"], "/v1");
    assert_eq!(
        document["paths"]["/.well-known/jwks.json"]["servers"][0]["url"],
        "/"
    );
    assert_eq!(document["paths"]["/m2m_tokens"].get("servers"), None);
    // Below the path of the public URL, where a proxy passes on only what is below it.
    let below: Value = serde_json::from_slice(&super::document(ROWS, "/auth")).expect("JSON");
    assert_eq!(below["servers"][0]["url"], "/auth/v1");
    let public = &below["paths"]["/.well-known/jwks.json"];
    assert_eq!(public["servers"][0]["url"], "/auth/");
}
