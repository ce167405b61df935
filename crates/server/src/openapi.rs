//! The OpenAPI document, made from the code: operations, methods, paths, credentials and types from the table in `route`, schemas and
//! examples from the types, errors from their table. What people read beside that stands above the handlers.

mod refusals;
pub(crate) mod schemas;
#[cfg(test)]
mod tests;
mod texts;

use std::borrow::Cow;

use bytes::Bytes;
use countersign_authority::Place;
use countersign_protocol::error::{ERROR_TABLE, ErrorEnvelope};
use countersign_protocol::request::PathParameters;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::api::GROUPS;
use crate::fields::Presence;
use crate::operation::{Prefix, Row};
use refusals::Refusals;
use schemas::{example, parameter, resolved, set};
use texts::{Item, Operation};

/// The document as JSON, for an authority whose public URL has this path.
pub(crate) fn document(rows: &[Row], base: &str) -> Bytes {
    let text = serde_json::to_vec(&tree(rows, base))
        .expect("the document has string keys and no failing serializers");
    Bytes::from(text)
}

/// The document for people, as it stands in `docs/reference`.
#[cfg(test)]
pub(crate) fn pretty(rows: &[Row]) -> String {
    serde_json::to_string_pretty(&tree(rows, "")).expect("as above") + "\n"
}

/// The document, whose operations stand in the order of the table.
#[derive(Serialize)]
struct Document {
    openapi: &'static str,
    info: Value,
    servers: Value,
    tags: Vec<Value>,
    paths: Ordered<Ordered<Value>>,
    components: Value,
}

/// An object whose members stand in this order: `serde_json` sorts those of a `Value`.
struct Ordered<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn tree(rows: &[Row], base: &str) -> Document {
    let described: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            row.described
                .map(|(id, text)| (row, id, Operation::read(text)))
        })
        .collect();
    let mut components = components(described.iter().map(|(row, ..)| *row));
    let mut paths: Ordered<Ordered<Value>> = Ordered(Vec::new());
    for (row, id, text) in described {
        let method = row.method.as_str().to_ascii_lowercase();
        let operation = (method, operation(row, id, &text, &components));
        match paths.0.iter_mut().find(|(path, _)| path == row.path) {
            Some((_, item)) => item.0.push(operation),
            None => {
                let mut item = path_item(row, base);
                item.0.push(operation);
                paths.0.push((row.path.to_owned(), item));
            }
        }
    }
    schemas::plain(&mut components);
    let tag = |(name, text): &(&str, &str)| json!({ "name": name, "description": text });
    Document {
        openapi: "3.1.0",
        info: json!({
            "title": "Countersign",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A self-hosted authority for machine-to-machine tokens that speaks Clerk's wire protocol.",
            "description": include_str!("../assets/introduction.md"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        }),
        servers: servers(&format!("{base}/v1"), "This authority"),
        tags: GROUPS.iter().map(tag).collect(),
        paths,
        components: json!({
            "schemas": components,
            "headers": refusals::header_components(),
            "securitySchemes": security_schemes(),
        }),
    }
}

/// The schemas of the bodies.
fn components<'a>(rows: impl Iterator<Item = &'a Row>) -> Map<String, Value> {
    let mut generator = schemas::generator(false);
    generator.subschema_for::<ErrorEnvelope>();
    let mut optional = Vec::new();
    for row in rows {
        if let Some(answer) = row.answer {
            answer(&mut generator);
        }
        if let Some(request) = row.request {
            let reference = request(&mut generator).to_value();
            optional.extend((row.presence == Presence::Optional).then_some(reference));
        }
    }
    let mut components = generator.take_definitions(true);
    for reference in optional {
        let schema = schemas::referred(&reference).and_then(|name| components.get_mut(name));
        if let Some(schema) = schema {
            set(schema, "type", json!(["object", "null"]));
        }
    }
    components
}

/// Without scheme and host, so that the document is right at each address of the authority.
fn servers(url: &str, description: &str) -> Value {
    json!([{ "url": url, "description": description }])
}

fn path_item(row: &Row, base: &str) -> Ordered<Value> {
    match row.prefix {
        Prefix::Optional => Ordered(Vec::new()),
        Prefix::None => {
            let servers = servers(&format!("{base}/"), "This authority, without a version");
            Ordered(vec![("servers".to_owned(), servers)])
        }
    }
}

fn operation(row: &Row, id: &str, text: &Operation, components: &Map<String, Value>) -> Value {
    let mut refusals = Refusals::default();
    let schemes = refusals.add_common(row);
    let security: Value = schemes.iter().map(|name| json!({ *name: [] })).collect();
    let mut operation = json!({
        "operationId": id, "tags": [text.group], "summary": text.summary, "description": text.text, "security": security,
    });
    let mut parameters = Vec::new();
    let in_path = schemas::inline(SchemaGenerator::subschema_for::<PathParameters>);
    for (name, schema) in schemas::members(&in_path) {
        if row.path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter("path", name, true, schema));
            let example = schema.pointer("/examples/0").unwrap_or(&Value::Null);
            refusals.add_id(name, example);
        }
    }
    if let Some(query) = row.query.map(schemas::inline) {
        refusals.add_members(row, Place::Query, &query);
        let required = query.get("required").and_then(Value::as_array);
        let is_required =
            |name: &String| required.is_some_and(|names| names.iter().any(|known| known == name));
        parameters.extend(
            schemas::members(&query)
                .map(|(name, schema)| parameter("query", name, is_required(name), schema)),
        );
    }
    if !parameters.is_empty() {
        set(&mut operation, "parameters", parameters.into());
    }
    if let Some(request) = row.request {
        let reference = request(&mut schemas::generator(false)).to_value();
        let schema = resolved(&reference, components);
        refusals.add_members(row, Place::Body, schema);
        let examples = schema["x-examples"].as_array().into_iter().flatten();
        let examples = examples.map(|example| {
            let name = example[0].as_str().unwrap_or_default().to_owned();
            (name, json!({ "summary": example[1], "value": example[2] }))
        });
        let content = json!({ "schema": reference, "examples": examples.collect::<Value>() });
        let is_required = row.presence == Presence::Required;
        let body = json!({ "required": is_required, "content": { "application/json": content } });
        set(&mut operation, "requestBody", body);
    }
    for item in &text.items {
        let mut words = item.name.split(' ');
        let code = words.next().unwrap_or_default();
        if let Some(error) = ERROR_TABLE.iter().find(|error| error.name == code) {
            refusals.add_written(error.code, words.next(), &item.text);
        }
    }
    let mut responses = refusals.into_responses();
    for item in text
        .items
        .iter()
        .filter(|item| item.name.parse::<u16>().is_ok())
    {
        let mut response = json!({ "description": item.text });
        // `/readyz` says 503 in two ways.
        let refusal = responses.get(item.name);
        let mut content = refusal
            .and_then(|refusal| refusal["content"].as_object().cloned())
            .unwrap_or_default();
        content.extend([success(row, item, components)]);
        set(&mut response, "content", content.into());
        responses.insert(item.name.to_owned(), response);
    }
    set(&mut operation, "responses", responses.into());
    operation
}

/// The content of an answer that is no error of the table: JSON of the row's type, or the text in the example.
fn success(row: &Row, item: &Item, components: &Map<String, Value>) -> (String, Value) {
    let Some(answer) = row.answer else {
        let text = format!("{}\n", item.example);
        let schema = json!({ "type": "string", "enum": [text], "description": "The state." });
        return (
            "text/plain".to_owned(),
            json!({ "schema": schema, "example": text }),
        );
    };
    let schema = answer(&mut schemas::generator(false)).to_value();
    let named = |name: &str, item: &Item| {
        let changes = serde_json::from_str(&item.example).unwrap_or_default();
        let value = example(&schema, components, &changes);
        (
            name.to_owned(),
            json!({ "summary": item.text, "value": value }),
        )
    };
    let examples: Value = if item.items.is_empty() {
        [named("success", item)].into_iter().collect()
    } else {
        item.items
            .iter()
            .map(|item| named(item.name, item))
            .collect()
    };
    (
        "application/json".to_owned(),
        json!({ "schema": schema, "examples": examples }),
    )
}

fn security_schemes() -> Value {
    let bearer = |format: &str, description: &str| json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": description });
    json!({
        "instanceKey": bearer("sk_…", "The key of your instance, for administration: machines, scopes, keys, settings. `countersign dev` and `countersign init` print it."),
        "machineKey": bearer("ak_…", "The key of one machine, for creating, verifying, listing and revoking tokens. The response to creating a machine contains it."),
        "token": bearer("mt_… or JWT", "A machine's token. It is accepted by *Who am I* only, which shows what it says and when it expires."),
    })
}

/// The document within the document.
pub(crate) struct Description;

impl JsonSchema for Description {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Description".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let info = json!({ "title": "Countersign", "version": env!("CARGO_PKG_VERSION") });
        let example = json!({ "openapi": "3.1.0", "info": info, "paths": {} });
        json_schema!({ "type": "object", "description": "An OpenAPI document.", "examples": [example] })
    }
}
