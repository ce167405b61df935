//! The answers that refuse. Most follow from the row of an operation and the types of its requests, and are worded by what answers
//! requests; the others stand in `operations.md`.

use std::collections::BTreeMap;

use countersign_authority::Accepts::{Any, AnyForKeySet, Instance, Machine};
use countersign_authority::{Error, Invalid, Place, Problem};
use countersign_protocol::bounds;
use countersign_protocol::error::{ErrorCode, ErrorEnvelope, ErrorItem};
use countersign_protocol::schema::NO_NUL;
use serde_json::{Map, Value, json};

use super::schemas::reference;
use crate::api::{jwks, tokens};
use crate::operation::Row;
use crate::reply::{ApiError, Habit};

/// The trace id of the examples.
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// An error that an operation may answer with, and its name among those of its status.
pub(super) struct Refusal {
    code: ErrorCode,
    item: ErrorItem,
    name: String,
}

impl Refusal {
    fn new(error: ApiError, about: Option<&str>) -> Self {
        let name = match about {
            Some(about) => format!("{}_{about}", error.code.name()),
            None => error.code.name().to_owned(),
        };
        Self {
            code: error.code,
            item: *error.item,
            name,
        }
    }

    /// An error of `operations.md`: its code, perhaps a parameter or (a reason), and its text.
    pub(super) fn written(code: ErrorCode, about: Option<&str>, text: &str) -> Self {
        let reason = about.and_then(|about| about.strip_prefix('(')?.strip_suffix(')'));
        let mut refusal = Self::new(ApiError::saying(code, text.to_owned()), reason.or(about));
        if let Some(reason) = reason {
            refusal.item = refusal.item.with_reason(reason.to_owned());
        } else if let Some(about) = about.filter(|_| code != ErrorCode::BadRequest) {
            refusal.item = refusal.item.with_param(about.to_owned());
        }
        refusal
    }

    /// What may be wrong with a parameter or member.
    fn invalid(row: &Row, place: Place, name: &str, problem: Problem) -> Self {
        let invalid = Invalid::new(place, name.to_owned(), problem);
        Self::new(ApiError::invalid(row.habit, &invalid), Some(name))
    }
}

/// An id in the path that names nothing, or is none.
pub(super) fn of_id(row: &Row, name: &str, example: &Value) -> Vec<Refusal> {
    let id = example.as_str().unwrap_or_default();
    let missing = |noun, id: &str| {
        ApiError::from_authority(
            row.habit,
            Error::NotFound {
                noun,
                id: id.to_owned(),
            },
        )
    };
    let errors = match name {
        "instance_id" => vec![jwks::no_such_instance()],
        "key_id" => vec![missing("instance key", "of this id")],
        "kid" => vec![missing("signing key", id)],
        "m2m_token_id" => vec![tokens::malformed_id(), missing("token", id)],
        "machine_id" => vec![missing("machine", id)],
        _ => Vec::new(),
    };
    errors
        .into_iter()
        .map(|error| Refusal::new(error, None))
        .collect()
}

/// What may be wrong with a body or query of this schema.
pub(super) fn of_schema(row: &Row, place: Place, schema: &Value) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse =
        |name: &str, problem| refusals.push(Refusal::invalid(row, place, name, problem));
    for name in schema["required"].as_array().into_iter().flatten() {
        refuse(name.as_str().unwrap_or_default(), Problem::Missing);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(right) = right_type(place, &member["type"]) {
            refuse(name, Problem::WrongType(right.into()));
        }
        for problem in out_of_bounds(member) {
            refuse(name, problem);
        }
        if place == Place::Query {
            refuse(name, Problem::Duplicate);
        }
    }
    if place == Place::Body && schema["additionalProperties"] == false {
        refuse("colour", Problem::Unknown);
    }
    refusals
}

fn right_type(place: Place, kind: &Value) -> Option<String> {
    let (kind, is_nullable) = match kind {
        Value::Array(kinds) => (kinds.first()?, true),
        kind => (kind, false),
    };
    let right = match (kind.as_str()?, place) {
        ("string", Place::Query) => return None,
        ("boolean", Place::Query) => "a boolean, true or false",
        ("array", _) => "an array of strings",
        ("integer", _) => "an integer",
        ("object", _) => "an object",
        (other, _) => {
            return Some(format!(
                "a {other}{}",
                if is_nullable { " or null" } else { "" }
            ));
        }
    };
    Some(right.to_owned())
}

fn out_of_bounds(member: &Value) -> Vec<Problem> {
    let number = |name: &str| member[name].as_i64();
    let length = |name: &str| number(name).and_then(|length| usize::try_from(length).ok());
    let unit = member["x-unit"].as_str().unwrap_or_default();
    let has_no_nul = member["pattern"] == NO_NUL;
    [
        length("minLength").map(Problem::TooShort),
        length("maxLength").map(Problem::TooLong),
        has_no_nul.then(bounds::no_nul),
        number("minimum").map(|least| bounds::at_least(least, unit)),
        number("exclusiveMinimum").map(bounds::greater_than),
        number("maximum").map(Problem::TooLarge),
        length("maxItems").map(Problem::TooMany),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What follows from the row: the schemes of its credential, and the errors.
pub(super) fn of_row(row: &Row) -> (&'static [&'static str], Vec<Refusal>) {
    use ErrorCode as Code;
    let mut codes = vec![
        Code::ApiVersionInvalid,
        Code::InternalClerkError,
        Code::ServiceUnavailable,
    ];
    let (schemes, refused): (&'static [_], &[_]) = match row.accepts {
        // The handler takes a token as well.
        None if row.checks_credential => (
            &["instanceKey", "machineKey", "token"],
            &[Code::ClerkKeyInvalid, Code::MachineSecretKeyInvalid],
        ),
        None => (&[], &[]),
        Some(Instance) => (&["instanceKey"], &[Code::ClerkKeyInvalid]),
        Some(Machine) => (&["machineKey"], &[Code::MachineSecretKeyInvalid]),
        Some(AnyForKeySet) => (&["instanceKey", "machineKey"], &[Code::ClerkKeyInvalid]),
        Some(Any) => (
            &["instanceKey", "machineKey"],
            &[Code::ClerkKeyInvalid, Code::MachineSecretKeyInvalid],
        ),
    };
    codes.extend(refused);
    if !refused.is_empty() {
        codes.extend([
            Code::AuthorizationHeaderFormatInvalid,
            Code::TooManyRequests,
        ]);
    }
    if row.query.is_some() {
        codes.push(Code::MalformedRequestParameters);
    }
    if row.request.is_some() {
        codes.push(Code::RequestBodyInvalid);
        if row.habit == Habit::Parameters {
            codes.extend([Code::RequestBodyTooLarge, Code::UnsupportedContentType]);
        }
    }
    let refusals = codes
        .into_iter()
        .map(|code| Refusal::new(ApiError::new(code), None));
    (schemes, refusals.collect())
}

/// The answers by status.
pub(super) fn responses(refusals: Vec<Refusal>) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Refusal>> = BTreeMap::new();
    for refusal in refusals {
        by_status
            .entry(refusal.code.status())
            .or_default()
            .push(refusal);
    }
    let responses = by_status.into_iter();
    responses
        .map(|(status, refusals)| (status.to_string(), response(status, refusals)))
        .collect()
}

fn response(status: u16, refusals: Vec<Refusal>) -> Value {
    let mut codes: Vec<ErrorCode> = refusals.iter().map(|refusal| refusal.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let lines = codes
        .iter()
        .map(|code| format!("- `{}`: {}", code.name(), code.row().when));
    let mut examples = Map::new();
    for Refusal { item, name, .. } in refusals {
        let summary = item.long_message.clone();
        let example =
            json!({ "summary": summary, "value": ErrorEnvelope::new(item, TRACE_ID.to_owned()) });
        let same = examples
            .keys()
            .filter(|known| known.starts_with(&name))
            .count();
        let name = if examples.contains_key(&name) {
            format!("{name}_{}", same + 1)
        } else {
            name
        };
        examples.insert(name, example);
    }
    let headers = ["Clerk-Trace-Id"].into_iter().chain(match status {
        401 => Some("WWW-Authenticate"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    });
    let header = |name| {
        (
            name,
            json!({ "$ref": format!("#/components/headers/{name}") }),
        )
    };
    json!({
        "description": lines.collect::<Vec<_>>().join("\n"),
        "headers": headers.map(header).collect::<BTreeMap<_, _>>(),
        "content": { "application/json": { "schema": reference("Errors"), "examples": examples } },
    })
}

/// Everything under `components.headers`.
pub(super) fn header_components() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "required": true, "schema": schema });
    json!({
        "Clerk-Trace-Id": header(
            "The id under which the log has this request.",
            json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        ),
        "WWW-Authenticate": header(
            "The scheme to authenticate with.",
            json!({ "type": "string", "const": "Bearer" }),
        ),
        "Retry-After": header("How many seconds to wait.", json!({ "type": "integer", "minimum": 1 })),
    })
}
