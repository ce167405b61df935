//! The OpenAPI document, made from the code: operations, methods, paths and credentials from the table in `route`, bounds from
//! `countersign_protocol::limits`, errors from its table, examples from its bodies.
//!
//! What people read beside that, one description per operation, is in `operations`; the row of an operation names its
//! description.

mod examples;
mod node;
pub(crate) mod operations;
mod refusals;
mod schemas;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use countersign_authority::Accepts;
use countersign_protocol::error::ErrorCode;

use crate::operation::{Prefix, Row};
use crate::reply::Habit;
use node::Node;
use operations::{Description, TAGS};
use refusals::{Refusal, responses};

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

fn tree(rows: &[Row]) -> Node {
    let info = Node::object()
        .with("title", "Countersign")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("summary", "A self-hosted authority for machine-to-machine tokens that speaks Clerk's wire protocol.")
        .with("description", include_str!("../assets/introduction.md"))
        .with(
            "license",
            Node::object().with("name", "Apache-2.0").with("identifier", "Apache-2.0"),
        );
    let tags: Vec<Node> = TAGS
        .iter()
        .map(|(name, description)| {
            Node::object()
                .with("name", *name)
                .with("description", *description)
        })
        .collect();
    Node::object()
        .with("openapi", "3.1.0")
        .with("info", info)
        .with("servers", servers("/v1", "This authority"))
        .with("tags", tags)
        .with("paths", paths(rows))
        .with(
            "components",
            Node::object()
                .with("schemas", schemas::components())
                .with("headers", refusals::header_components())
                .with("securitySchemes", security_schemes()),
        )
}

/// Relative, so that the document is right wherever it is served.
fn servers(url: &'static str, description: &'static str) -> Vec<Node> {
    vec![
        Node::object()
            .with("url", url)
            .with("description", description),
    ]
}

/// The paths in the order of the table, each with its methods.
fn paths(rows: &[Row]) -> Node {
    let mut paths: Vec<(&'static str, Node)> = Vec::new();
    for row in rows {
        let Some(description) = row.description else {
            continue;
        };
        let method = row.method.as_str().to_ascii_lowercase();
        let operation = operation(row, description());
        match paths.iter_mut().find(|(path, _)| *path == row.path) {
            Some((_, item)) => *item = std::mem::replace(item, Node::Null).with(method, operation),
            None => paths.push((row.path, path_item(row).with(method, operation))),
        }
    }
    paths
        .into_iter()
        .fold(Node::object(), |all, (path, item)| all.with(path, item))
}

fn path_item(row: &Row) -> Node {
    match row.prefix {
        Prefix::Optional => Node::object(),
        Prefix::None => {
            Node::object().with("servers", servers("/", "This authority, without a version"))
        }
    }
}

fn operation(row: &Row, description: Description) -> Node {
    let is_query = |parameter: &Node| parameter.member("in") == Some(&"query".into());
    let takes = Takes {
        query: description.parameters.iter().any(is_query),
        body: description.body.is_some(),
    };
    let mut refusals = description.refusals;
    refusals.extend(common(row, takes));
    let answers = description
        .successes
        .into_iter()
        .map(|(status, answer)| (status.to_owned(), answer))
        .chain(responses(&refusals))
        .fold(Node::object(), |all, (status, answer)| {
            merge_status(all, status, answer)
        });
    let parameters = (!description.parameters.is_empty()).then_some(description.parameters);
    Node::object()
        .with("operationId", description.id)
        .with("tags", [description.tag])
        .with("summary", description.summary)
        .with("description", description.text)
        .with("security", security(row))
        .with_some("parameters", parameters)
        .with_some("requestBody", description.body)
        .with("responses", answers)
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

/// Adds an answer; one whose status is there already (`/readyz` says 503 in two ways) adds its content to that one.
fn merge_status(all: Node, status: String, answer: Node) -> Node {
    let Node::Object(mut answers) = all else {
        return all;
    };
    let same = answers
        .iter_mut()
        .find(|(known, _)| *known == status)
        .map(|(_, known)| known);
    match (same, answer) {
        (Some(Node::Object(members)), Node::Object(others)) => {
            for (name, value) in others {
                let member = members
                    .iter_mut()
                    .find(|(known, _)| *known == name)
                    .map(|(_, known)| known);
                if let (Some(Node::Object(known)), Node::Object(more)) = (member, value) {
                    known.extend(more);
                }
            }
        }
        (_, answer) => answers.push((status.into(), answer)),
    }
    Node::Object(answers)
}

fn security(row: &Row) -> Vec<Node> {
    let names: &[&'static str] = match row.accepts {
        // The handler takes a token as well.
        None if row.checks_credential => &["instanceKey", "machineKey", "token"],
        None => &[],
        Some(Accepts::Instance) => &["instanceKey"],
        Some(Accepts::Machine) => &["machineKey"],
        Some(Accepts::Any | Accepts::AnyForKeySet) => &["instanceKey", "machineKey"],
    };
    names
        .iter()
        .map(|name| Node::object().with(*name, Node::List(Vec::new())))
        .collect()
}

fn security_schemes() -> Node {
    let bearer = |format: &'static str, description: &'static str| {
        Node::object()
            .with("type", "http")
            .with("scheme", "bearer")
            .with("bearerFormat", format)
            .with("description", description)
    };
    Node::object()
        .with(
            "instanceKey",
            bearer("sk_…", "The key of your instance, for administration: machines, scopes, keys, settings. `countersign dev` and `countersign init` print it."),
        )
        .with(
            "machineKey",
            bearer("ak_…", "The key of one machine, for creating, verifying, listing and revoking tokens. Creating a machine answers with it."),
        )
        .with(
            "token",
            bearer("mt_… or JWT", "A machine's token. It opens nothing but *Who am I*: present it there to see what it says and how long it lives."),
        )
}
