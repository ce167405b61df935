//! The shapes of bodies and parameters. Bounds come from `countersign_protocol::limits`; that the examples, and the server
//! itself, fit them is seen by `tests/schemathesis`.

mod instances;
mod keys;
mod machines;
mod tokens;

use countersign_protocol::limits::MAX_NAME_LENGTH;

use super::node::Node;

pub(super) const MACHINE_ID: &str = "^mch_[0-9A-Za-z_]{27}$";
pub(super) const INSTANCE_ID: &str = "^ins_[0-9A-Za-z_]{27}$";
/// What a path may hold: the contract takes upper-case digits as well, and finds nothing under them.
pub(super) const TOKEN_ID_IN_PATH: &str = "^mt_[0-9A-Fa-f]{32}$";
pub(super) const INSTANCE_KEY_ID: &str = "^key_[0-9a-f]{12}$";
/// Texts that go to people and databases hold no NUL.
const NO_NUL: &str = "^[^\\u0000]*$";

/// A schema of one type.
pub(super) fn typed(kind: &'static str) -> Node {
    Node::object().with("type", kind)
}

fn nullable(kind: &'static str) -> Node {
    Node::object().with("type", [kind, "null"])
}

pub(super) fn text(description: impl Into<std::borrow::Cow<'static, str>>) -> Node {
    typed("string").with("description", description.into())
}

pub(super) fn boolean(description: &'static str) -> Node {
    typed("boolean").with("description", description)
}

pub(super) fn matching(pattern: &'static str, description: &'static str) -> Node {
    typed("string")
        .with("pattern", pattern)
        .with("description", description)
}

pub(super) fn one_of(values: impl Into<Node>, description: &'static str) -> Node {
    typed("string")
        .with("enum", values)
        .with("description", description)
}

pub(super) fn integer(least: i64, most: Option<i64>, description: &'static str) -> Node {
    typed("integer")
        .with("format", "int64")
        .with("minimum", least)
        .with_some("maximum", most)
        .with("description", description)
}

/// A point in time. No more than that is promised: clocks may be anywhere.
fn millis(description: &'static str) -> Node {
    typed("integer")
        .with("format", "int64")
        .with("description", description)
}

fn nullable_millis(description: &'static str) -> Node {
    nullable("integer")
        .with("format", "int64")
        .with("description", description)
}

fn constant(value: impl Into<Node>, description: &'static str) -> Node {
    Node::object()
        .with("const", value)
        .with("description", description)
}

pub(super) fn array(items: Node, description: &'static str) -> Node {
    typed("array")
        .with("items", items)
        .with("description", description)
}

pub(super) fn reference(schema: &'static str) -> Node {
    Node::object().with("$ref", format!("#/components/schemas/{schema}"))
}

/// An object of these members and no others. A `?` at the end of a name marks one that may be absent.
pub(super) fn object(members: Vec<(&'static str, Node)>) -> Node {
    closed(typed("object"), members)
}

/// The same where `null` is as good as an object without members.
fn nullable_object(members: Vec<(&'static str, Node)>) -> Node {
    closed(nullable("object"), members)
}

fn closed(schema: Node, members: Vec<(&'static str, Node)>) -> Node {
    let required: Vec<_> = members
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !name.ends_with('?'))
        .collect();
    let mut properties = Node::object();
    for (name, member) in members {
        properties = properties.with(name.trim_end_matches('?'), member);
    }
    let schema = if required.is_empty() {
        schema
    } else {
        schema.with("required", required)
    };
    schema
        .with("properties", properties)
        .with("additionalProperties", false)
}

pub(super) fn machine_id(description: &'static str) -> Node {
    matching(MACHINE_ID, description)
}

fn tag<T: serde::Serialize + Default>(description: &'static str) -> Node {
    constant(Node::of(&T::default()), description)
}

fn name(description: &'static str) -> Node {
    text(description)
        .with("minLength", 1_i64)
        .with("maxLength", MAX_NAME_LENGTH)
        .with("pattern", NO_NUL)
}

fn total_count() -> Node {
    integer(0, None, "How many there are on all pages together.")
}

/// Everything under `components.schemas`, in the order in which people read it.
pub(super) fn components() -> Node {
    [
        tokens::schemas(),
        machines::schemas(),
        keys::schemas(),
        instances::schemas(),
        neighbours(),
        errors(),
    ]
    .into_iter()
    .flatten()
    .fold(Node::object(), |all, (name, schema)| all.with(name, schema))
}

/// What is asked about kinds of token that are not here. Nothing is read of it.
fn neighbours() -> Vec<(&'static str, Node)> {
    vec![
        (
            "NeighbourSecret",
            typed("object").with(
                "properties",
                Node::object().with("secret", text("An API key.")),
            ),
        ),
        (
            "NeighbourAccessToken",
            typed("object").with(
                "properties",
                Node::object().with("access_token", text("An OAuth token.")),
            ),
        ),
    ]
}

fn errors() -> Vec<(&'static str, Node)> {
    let meta = object(vec![
        ("param_name?", text("The parameter at fault.")),
        (
            "reason?",
            one_of(
                ["unknown", "revoked", "expired", "not_in_scope"],
                "Why a token does not verify, for those who may know.",
            ),
        ),
    ]);
    let error = object(vec![
        ("message", text("A short text.")),
        (
            "long_message",
            text("What is wrong and what would be right."),
        ),
        ("code", matching("^[a-z0-9_]+$", "The code, for programs.")),
        ("meta?", meta),
    ]);
    vec![
        (
            "Errors",
            object(vec![
                (
                    "errors",
                    array(reference("Error"), "What went wrong.").with("minItems", 1_i64),
                ),
                (
                    "clerk_trace_id",
                    matching(
                        "^[0-9a-f]{32}$",
                        "The id under which the log has this request; also in the header `Clerk-Trace-Id`.",
                    ),
                ),
            ]),
        ),
        ("Error", error),
    ]
}
