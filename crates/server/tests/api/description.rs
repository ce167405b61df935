//! The document against the server: what is refused is refused as described.

use serde_json::{Map, Value, json};

use crate::support::Api;
use crate::support::http::Request;

/// Values that break a bound or the type of a member, and a name that no member has.
fn wrong_values(member: &Value) -> Vec<Value> {
    let mut values = Vec::new();
    let kinds = member["type"].to_string();
    if !kinds.contains("null") && member["type"].is_string() {
        values.push(Value::Null);
    }
    if !member["type"].is_null() {
        values.push(json!([[1]]));
    }
    let number = |name: &str| member[name].as_i64();
    values.extend(number("minimum").map(|least| json!(least - 1)));
    values.extend(number("exclusiveMinimum").map(|bound| json!(bound)));
    values.extend(number("maximum").map(|most| json!(most + 1)));
    let text = |length: i64| json!("x".repeat(usize::try_from(length).unwrap()));
    values.extend(number("minLength").map(|least| text(least - 1)));
    values.extend(number("maxLength").map(|most| text(most + 1)));
    values.extend(
        number("maxItems").map(|most| json!(vec!["x"; usize::try_from(most).unwrap() + 1])),
    );
    if member["pattern"] == "^[^\\u0000]*$" {
        values.push(json!("a\0b"));
    }
    values
}

/// The bodies of a request that break one rule each, made of one that breaks none.
fn wrong_bodies(schema: &Value, right: &Map<String, Value>) -> Vec<Value> {
    let mut bodies = Vec::new();
    let with = |name: &str, value: Value| {
        let mut body = right.clone();
        body.insert(name.to_owned(), value);
        Value::from(body)
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        let mut body = right.clone();
        body.remove(name.as_str().unwrap());
        bodies.push(body.into());
    }
    for (name, member) in schema["properties"].as_object().unwrap() {
        let values = wrong_values(member).into_iter();
        bodies.extend(values.map(|value| with(name, value)));
    }
    bodies.push(with("color", json!("red")));
    bodies
}

#[test]
fn a_body_that_breaks_a_rule_is_refused_as_the_document_says() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let token = api.token(&sender, "{}");
    let document = api.get("/openapi.json", "").value();
    let mut sent = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["requestBody"]["content"]["application/json"];
            let Some(reference) = content["schema"]["$ref"].as_str() else {
                continue;
            };
            let schema = document.pointer(&reference[1..]).unwrap();
            // The neighbours' bodies are not read.
            if schema["additionalProperties"] != false {
                continue;
            }
            let examples = content["examples"].as_object().unwrap().values();
            let right = examples.min_by_key(|example| example.to_string().len());
            let right = right.unwrap()["value"].as_object().unwrap().clone();
            let ids = [("{machine_id}", &sender.id), ("{m2m_token_id}", &token.id)];
            let real = ids
                .iter()
                .fold(path.clone(), |path, (name, id)| path.replace(name, id));
            let is_machine = operation["security"] == json!([{ "machineKey": [] }]);
            let key = if is_machine { &sender.ak } else { &api.sk };
            for body in wrong_bodies(schema, &right) {
                let method = if method == "post" { "POST" } else { "PATCH" };
                let request = Request::new(method, &real).key(key).json(&body.to_string());
                let reply = api.send(&request);
                let error = &reply.value()["errors"][0];
                let described = &operation["responses"][reply.status.to_string()]["content"];
                let described = described["application/json"]["examples"].as_object();
                let is_described = described.into_iter().flatten().any(|(_, example)| {
                    let described = &example["value"]["errors"][0];
                    ["code", "message", "long_message", "meta"]
                        .iter()
                        .all(|name| described[name] == error[name])
                });
                assert!(
                    is_described,
                    "{method} {path} {body}: {} {error}",
                    reply.status
                );
                sent += 1;
            }
        }
    }
    assert!(sent > 50, "{sent}");
}

#[test]
fn members_that_may_be_absent_are_not_required() {
    let document = Api::start().get("/openapi.json", "").value();
    let required = |name: &str| document["components"]["schemas"][name]["required"].clone();
    assert_eq!(required("CreateMachine"), json!(["name"]));
    assert_eq!(required("CreateMachineScope"), json!(["to_machine_id"]));
    assert_eq!(
        required("RotateMachineSecretKey"),
        json!(["previous_token_ttl"])
    );
    assert_eq!(required("UpdateInstance"), json!(["settings"]));
    for name in [
        "UpdateMachine",
        "CreateM2MToken",
        "VerifyM2MToken",
        "RevokeM2MToken",
        "UpdateM2MToken",
        "CreateInstanceKey",
        "RotateSigningKey",
    ] {
        assert_eq!(required(name), Value::Null, "{name}");
    }
}
