//! The OpenAPI document, made from the code: operations, methods, paths and credentials from the table in `route`, bounds from
//! `countersign_protocol::limits`, errors from its table, examples from its bodies.
//!
//! What people read beside that, one description per operation, is in `operations`; the row of an operation names its
//! description.

pub(crate) mod operations;
mod refusals;
mod schemas;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use countersign_authority::Accepts;
use countersign_protocol::error::{ErrorCode, ErrorEnvelope};
use schemars::SchemaGenerator;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::operation::{Prefix, Row};
use crate::reply::Habit;
use operations::{Description, TAGS};
use refusals::{Refusal, named, responses};

/// The document as JSON.
pub(crate) fn document(rows: &[Row]) -> Bytes {
    let text = serde_json::to_vec(&tree(rows))
        .expect("the document has string keys and no failing serialisers");
    Bytes::from(text)
}

/// The document for people, as it stands in `docs/reference`.
#[cfg(test)]
pub(crate) fn pretty(rows: &[Row]) -> String {
    serde_json::to_string_pretty(&tree(rows)).expect("as above") + "\n"
}

/// The document, whose operations stand in the order of the table.
#[derive(Serialize)]
struct Document {
    openapi: &'static str,
    info: Value,
    servers: Value,
    tags: Value,
    paths: Ordered<Ordered<Value>>,
    components: Value,
}

/// An object whose members stand in this order: `serde_json` sorts those of a `Value`.
#[derive(Default)]
struct Ordered<T>(Vec<(String, T)>);

impl<T> Ordered<T> {
    /// Returns the member with this name, and makes it if it is missing.
    fn entry(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let place = self.0.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| {
            self.0.push((name.to_owned(), make()));
            self.0.len() - 1
        });
        self.0
            .get_mut(place)
            .map(|(_, value)| value)
            .expect("it was found or pushed")
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn tree(rows: &[Row]) -> Document {
    let described: Vec<(&Row, Description)> = rows
        .iter()
        .filter_map(|row| row.description.map(|description| (row, description())))
        .collect();
    let mut generator = schemas::generator();
    generator.subschema_for::<ErrorEnvelope>();
    for (_, description) in &described {
        if let Some((_, schema, _)) = description.body {
            schema(&mut generator);
        }
        for success in &description.successes {
            (success.schema)(&mut generator);
        }
    }
    let components = schemas::components(generator.clone());
    let mut paths = Ordered::default();
    for (row, description) in described {
        let item: &mut Ordered<Value> = paths.entry(row.path, || path_item(row));
        let method = row.method.as_str().to_ascii_lowercase();
        let operation = operation(row, description, &mut generator, &components);
        item.0.push((method, operation));
    }
    let tags: Vec<Value> = TAGS
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    Document {
        openapi: "3.1.0",
        info: json!({
            "title": "Countersign",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A self-hosted authority for machine-to-machine tokens that speaks Clerk's wire protocol.",
            "description": include_str!("../assets/introduction.md"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        }),
        servers: servers("/v1", "This authority"),
        tags: tags.into(),
        paths,
        components: json!({
            "schemas": components,
            "headers": refusals::header_components(),
            "securitySchemes": security_schemes(),
        }),
    }
}

/// Relative, so that the document is right wherever it is served.
fn servers(url: &str, description: &str) -> Value {
    json!([{ "url": url, "description": description }])
}

fn path_item(row: &Row) -> Ordered<Value> {
    match row.prefix {
        Prefix::Optional => Ordered::default(),
        Prefix::None => {
            let servers = servers("/", "This authority, without a version");
            Ordered(vec![("servers".to_owned(), servers)])
        }
    }
}

fn operation(
    row: &Row,
    description: Description,
    generator: &mut SchemaGenerator,
    components: &Map<String, Value>,
) -> Value {
    let takes = Takes {
        query: description
            .parameters
            .iter()
            .any(|parameter| parameter["in"] == "query"),
        body: description.body.is_some(),
    };
    let mut refusals = description.refusals;
    refusals.extend(common(row, takes));
    let mut responses = Map::from_iter(responses(&refusals));
    for success in description.successes {
        let schema = match success.shape {
            Some(shape) => schemas::reference(shape),
            None => (success.schema)(generator).to_value(),
        };
        let examples = named(success.examples.iter().map(|(name, summary, changes)| {
            let value = schemas::example(&schema, components, &written(changes));
            (*name, json!({ "summary": summary, "value": value }))
        }));
        let content = json!({ "application/json": { "schema": schema, "examples": examples } });
        let answer = json!({ "description": success.description, "content": content });
        responses.insert(success.status.to_owned(), answer);
    }
    for (status, text, content) in description.others {
        // `/readyz` says 503 in two ways.
        let refusal = responses.remove(status).unwrap_or_default();
        let mut contents = refusal
            .get("content")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        contents.extend(content.as_object().cloned().unwrap_or_default());
        let answer = json!({ "description": text, "content": contents });
        responses.insert(status.to_owned(), answer);
    }
    let mut operation = json!({
        "operationId": description.id,
        "tags": [description.tag],
        "summary": description.summary,
        "description": description.text,
        "security": security(row),
        "responses": responses,
    });
    if !description.parameters.is_empty() {
        schemas::set(&mut operation, "parameters", description.parameters.into());
    }
    if let Some((is_required, schema, examples)) = description.body {
        let examples = named(examples.iter().map(|(name, summary, value)| {
            (
                *name,
                json!({ "summary": summary, "value": written(value) }),
            )
        }));
        let content = json!({ "schema": schema(generator), "examples": examples });
        let body = json!({
            "required": is_required, "content": { "application/json": content },
        });
        schemas::set(&mut operation, "requestBody", body);
    }
    operation
}

/// JSON of this crate's source.
fn written(text: &str) -> Value {
    serde_json::from_str(text).expect("the examples are JSON")
}

/// What an operation takes, as far as it decides which errors there are.
#[derive(Clone, Copy, Debug)]
struct Takes {
    query: bool,
    body: bool,
}

/// The errors that follow from the row of the table, beside those of the operation itself.
fn common(row: &Row, takes: Takes) -> Vec<Refusal> {
    use ErrorCode as Code;
    let mut codes = vec![Code::ApiVersionInvalid];
    match row.accepts {
        None => {}
        Some(Accepts::Instance | Accepts::AnyForKeySet) => codes.extend([
            Code::AuthorizationHeaderFormatInvalid,
            Code::ClerkKeyInvalid,
        ]),
        Some(Accepts::Machine) => codes.extend([
            Code::AuthorizationHeaderFormatInvalid,
            Code::MachineSecretKeyInvalid,
        ]),
        Some(Accepts::Any) => {
            codes.extend([
                Code::AuthorizationHeaderFormatInvalid,
                Code::ClerkKeyInvalid,
                Code::MachineSecretKeyInvalid,
            ]);
        }
    }
    if row.accepts.is_some() {
        codes.push(Code::TooManyRequests);
    }
    if takes.query {
        codes.push(Code::MalformedRequestParameters);
    }
    if takes.body {
        codes.push(Code::RequestBodyInvalid);
        if row.habit == Habit::Parameters {
            codes.extend([Code::RequestBodyTooLarge, Code::UnsupportedContentType]);
        }
    }
    codes.extend([Code::InternalClerkError, Code::ServiceUnavailable]);
    codes.into_iter().map(Refusal::new).collect()
}

fn security(row: &Row) -> Value {
    let names: &[&'static str] = match row.accepts {
        // The handler takes a token as well.
        None if row.checks_credential => &["instanceKey", "machineKey", "token"],
        None => &[],
        Some(Accepts::Instance) => &["instanceKey"],
        Some(Accepts::Machine) => &["machineKey"],
        Some(Accepts::Any | Accepts::AnyForKeySet) => &["instanceKey", "machineKey"],
    };
    names.iter().map(|name| json!({ *name: [] })).collect()
}

fn security_schemes() -> Value {
    let bearer = |format: &str, description: &str| json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": description });
    json!({
        "instanceKey": bearer("sk_…", "The key of your instance, for administration: machines, scopes, keys, settings. `countersign dev` and `countersign init` print it."),
        "machineKey": bearer("ak_…", "The key of one machine, for creating, verifying, listing and revoking tokens. Creating a machine answers with it."),
        "token": bearer("mt_… or JWT", "A machine's token. It opens nothing but *Who am I*: present it there to see what it says and how long it lives."),
    })
}
