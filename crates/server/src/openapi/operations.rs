//! What people read about each operation, and what only the handlers know: parameters, bodies, successes, refusals.

pub(crate) mod instance;
pub(crate) mod machines;
pub(crate) mod public;
pub(crate) mod signing_keys;
pub(crate) mod tokens;

use countersign_protocol::error::ErrorCode;
use countersign_protocol::limits::{DEFAULT_PAGE, MAX_SAFE_INTEGER};

use super::node::Node;
use super::refusals::Refusal;
use super::schemas;

const START: &str = "Who am I";
const TOKENS: &str = "Tokens";
const MACHINES: &str = "Machines";
const SCOPES: &str = "Scopes";
const MACHINE_KEYS: &str = "Machine keys";
const JWKS: &str = "Public keys";
const SIGNING_KEYS: &str = "Signing keys";
const INSTANCE: &str = "Instance";
const STATE: &str = "State";
const NEIGHBOURS: &str = "Neighbours";

/// The groups of operations, in the order in which they are shown.
pub(super) const TAGS: &[(&str, &str)] = &[
    (
        START,
        "Start here: shows what the key or token that you pasted is.",
    ),
    (
        MACHINES,
        "A machine is a service with a key of its own. An instance key manages them.",
    ),
    (
        SCOPES,
        "A scope lets one machine call another. Tokens copy the scopes of their machine when they are made.",
    ),
    (
        MACHINE_KEYS,
        "The key of a machine, with which it creates and verifies tokens.",
    ),
    (
        TOKENS,
        "What one machine shows to another. Machines create them; receivers verify them; both can be done with a key alone.",
    ),
    (
        JWKS,
        "With these anybody checks a JWT without asking the authority each time.",
    ),
    (
        SIGNING_KEYS,
        "The private sides of the public keys: when they sign, when they go.",
    ),
    (
        INSTANCE,
        "The instance that the key belongs to: settings, keys and change log.",
    ),
    (
        STATE,
        "For load balancers and for tools that read this document.",
    ),
    (
        NEIGHBOURS,
        "SDKs that accept any kind of token ask here about kinds that this authority does not have.",
    ),
];

/// What is said about an operation.
pub(crate) struct Description {
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) text: &'static str,
    pub(super) parameters: Vec<Node>,
    pub(super) body: Option<Node>,
    pub(super) successes: Vec<(&'static str, Node)>,
    /// What it may refuse beside what follows from the table of operations.
    pub(super) refusals: Vec<Refusal>,
}

impl Description {
    fn new(id: &'static str, tag: &'static str, summary: &'static str, text: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            text,
            parameters: Vec::new(),
            body: None,
            successes: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn path(mut self, name: &'static str, schema: Node, example: &'static str) -> Self {
        self.parameters
            .push(parameter("path", name, schema, true).with("example", example));
        self
    }

    fn query(mut self, name: &'static str, schema: Node) -> Self {
        self.parameters
            .push(parameter("query", name, schema, false));
        self
    }

    fn required_query(mut self, name: &'static str, schema: Node, example: &'static str) -> Self {
        self.parameters
            .push(parameter("query", name, schema, true).with("example", example));
        self
    }

    /// `limit` and `offset`.
    fn paged(self, most: i64) -> Self {
        let limit =
            schemas::integer(1, Some(most), "How many at most.").with("default", DEFAULT_PAGE);
        let offset =
            schemas::integer(0, Some(MAX_SAFE_INTEGER), "How many to skip.").with("default", 0_i64);
        self.query("limit", limit).query("offset", offset)
    }

    fn body(
        self,
        schema: &'static str,
        examples: &[(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.takes(true, schema, examples)
    }

    fn optional_body(
        self,
        schema: &'static str,
        examples: &[(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.takes(false, schema, examples)
    }

    /// Each example is a name, a summary and JSON.
    fn takes(
        mut self,
        is_required: bool,
        schema: &'static str,
        examples: &[(&'static str, &'static str, &'static str)],
    ) -> Self {
        let examples = examples
            .iter()
            .fold(Node::object(), |all, (name, summary, json)| {
                all.with(
                    *name,
                    Node::object()
                        .with("summary", *summary)
                        .with("value", Node::json(json)),
                )
            });
        let content = Node::object()
            .with("schema", schemas::reference(schema))
            .with("examples", examples);
        self.body = Some(
            Node::object()
                .with("required", is_required)
                .with("content", Node::object().with("application/json", content)),
        );
        self
    }

    fn answers(self, description: &'static str, schema: &'static str, example: Node) -> Self {
        self.answers_any(
            "200",
            description,
            schema,
            vec![("success", description, example)],
        )
    }

    fn answers_any(
        mut self,
        status: &'static str,
        description: &'static str,
        schema: &'static str,
        examples: Vec<(&'static str, &'static str, Node)>,
    ) -> Self {
        let examples = examples
            .into_iter()
            .fold(Node::object(), |all, (name, summary, value)| {
                all.with(
                    name,
                    Node::object().with("summary", summary).with("value", value),
                )
            });
        let content = Node::object()
            .with("schema", schemas::reference(schema))
            .with("examples", examples);
        let answer = Node::object()
            .with("description", description)
            .with("content", Node::object().with("application/json", content));
        self.successes.push((status, answer));
        self
    }

    fn refuses(mut self, refusals: impl IntoIterator<Item = Refusal>) -> Self {
        self.refusals.extend(refusals);
        self
    }
}

fn parameter(place: &'static str, name: &'static str, schema: Node, is_required: bool) -> Node {
    let description = schema.member("description").cloned();
    let Node::Object(members) = schema else {
        return Node::Null;
    };
    let schema = Node::Object(
        members
            .into_iter()
            .filter(|(member, _)| member != "description")
            .collect(),
    );
    Node::object()
        .with("name", name)
        .with("in", place)
        .with_some("description", description)
        .with("required", is_required)
        .with("schema", schema)
}

/// Problems with the members of a body, as the service for machines words them.
fn body_problems() -> [Refusal; 2] {
    [
        Refusal::saying(ErrorCode::FormParamTypeInvalid, "`name` must be a string.").about("name"),
        Refusal::saying(
            ErrorCode::FormParamUnknown,
            "colour is not a valid parameter for this request.",
        )
        .about("colour"),
    ]
}

/// The same where no member is called `name`.
fn body_problems_of(member: &'static str, wrong_type: &'static str) -> [Refusal; 2] {
    let [_, unknown] = body_problems();
    [
        Refusal::saying(ErrorCode::FormParamTypeInvalid, wrong_type).about(member),
        unknown,
    ]
}

/// Problems with `limit` and `offset`, as the service for machines words them.
fn page_problems() -> [Refusal; 4] {
    [
        Refusal::saying(
            ErrorCode::FormParamTypeInvalid,
            "`limit` must be an integer.",
        )
        .about("limit"),
        Refusal::saying(
            ErrorCode::FormParamValueInvalid,
            "limit must be at least 1.",
        )
        .about("limit"),
        Refusal::saying(
            ErrorCode::FormParamValueTooLarge,
            "limit must be at most 500.",
        )
        .about("limit"),
        Refusal::saying(
            ErrorCode::FormParamDuplicate,
            "limit must be included once.",
        )
        .about("limit"),
    ]
}

/// An id in the path that names nothing.
fn not_found(long_message: &'static str) -> Refusal {
    Refusal::saying(ErrorCode::ResourceNotFound, long_message)
}
