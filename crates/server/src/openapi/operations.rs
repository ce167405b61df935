//! What people read about each operation, and what only the handlers know: parameters, bodies, successes, refusals.

pub(crate) mod instance;
pub(crate) mod machines;
pub(crate) mod public;
pub(crate) mod signing_keys;
pub(crate) mod tokens;

use countersign_protocol::error::ErrorCode;
use countersign_protocol::limits::{DEFAULT_PAGE, MAX_SAFE_INTEGER};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::refusals::Refusal;
use super::schemas::set;

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

/// Describes a type to a generator, which keeps what it has seen.
pub(super) type Schema = fn(&mut SchemaGenerator) -> schemars::Schema;

/// A body that succeeds. Its example is made of those of its members; each of `examples` (name, summary, JSON) replaces some.
#[derive(Debug)]
pub(super) struct Success {
    pub(super) status: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: Schema,
    /// The schema's name, where it is not that of the type.
    pub(super) shape: Option<&'static str>,
    pub(super) examples: Vec<(&'static str, &'static str, &'static str)>,
}

/// What a request may hold: whether it must be there, its type, its examples by name, summary and JSON.
pub(super) type RequestBody = (
    bool,
    Schema,
    &'static [(&'static str, &'static str, &'static str)],
);

/// What is said about an operation.
#[derive(Debug)]
pub(crate) struct Description {
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) text: &'static str,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<RequestBody>,
    pub(super) successes: Vec<Success>,
    /// Answers that are no JSON of a type: status, description, content.
    pub(super) others: Vec<(&'static str, &'static str, Value)>,
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
            others: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// Takes a parameter, whose schema and example are those of its type.
    fn parameter<T: JsonSchema>(mut self, place: &str, name: &str, description: &str) -> Self {
        let mut schema = T::json_schema(&mut SchemaGenerator::default()).to_value();
        let example = schema
            .as_object_mut()
            .and_then(|schema| schema.remove("examples"));
        let example = example.and_then(|examples| examples.get(0).cloned());
        self.parameters.push(json!({
            "name": name, "in": place, "required": true, "description": description, "schema": schema, "example": example,
        }));
        self
    }

    fn path<T: JsonSchema>(self, name: &str, description: &str) -> Self {
        self.parameter::<T>("path", name, description)
    }

    /// Gives the last parameter another example than its type has.
    fn example(mut self, example: &str) -> Self {
        if let Some(last) = self.parameters.last_mut() {
            set(last, "example", example.into());
        }
        self
    }

    fn query(mut self, name: &str, description: &str, schema: Value) -> Self {
        let mut parameter = json!({
            "name": name, "in": "query", "required": false, "description": description,
        });
        set(&mut parameter, "schema", schema);
        self.parameters.push(parameter);
        self
    }

    /// `limit` and `offset`.
    fn paged(self, most: i64) -> Self {
        let limit = json!({ "type": "integer", "format": "int64", "minimum": 1, "maximum": most, "default": DEFAULT_PAGE });
        self.query("limit", "How many at most.", limit).query(
            "offset",
            "How many to skip.",
            whole_number(),
        )
    }

    fn body<T: JsonSchema>(
        mut self,
        examples: &'static [(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.body = Some((true, SchemaGenerator::subschema_for::<T>, examples));
        self
    }

    fn optional_body<T: JsonSchema>(
        mut self,
        examples: &'static [(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.body = Some((false, SchemaGenerator::subschema_for::<T>, examples));
        self
    }

    /// Succeeds with 200 and a body, of whose example `changes` (JSON) replaces some members.
    fn answers<T: JsonSchema>(self, description: &'static str, changes: &'static str) -> Self {
        self.answers_any::<T>("200", description, &[("success", description, changes)])
    }

    fn answers_any<T: JsonSchema>(
        mut self,
        status: &'static str,
        description: &'static str,
        examples: &[(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.successes.push(Success {
            status,
            description,
            schema: SchemaGenerator::subschema_for::<T>,
            shape: None,
            examples: examples.to_vec(),
        });
        self
    }

    /// Names the shape of the last success: that of its type with the members that stand in this one only.
    fn shaped(mut self, shape: &'static str) -> Self {
        if let Some(last) = self.successes.last_mut() {
            last.shape = Some(shape);
        }
        self
    }

    fn refuses(mut self, refusals: impl IntoIterator<Item = Refusal>) -> Self {
        self.refusals.extend(refusals);
        self
    }
}

/// A number that every reader of JSON keeps, from 0.
fn whole_number() -> Value {
    json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_SAFE_INTEGER, "default": 0 })
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
