//! Error responses. Most are derived from the row of an operation and the types of its requests, with the texts of the code that
//! answers requests. The others are declared above the handlers.

use std::collections::{BTreeMap, BTreeSet};

use countersign_authority::Accepts::{Any, AnyForKeySet, Instance, Machine};
use countersign_authority::{Invalid, Place, Problem};
use countersign_protocol::bounds;
use countersign_protocol::error::{ErrorCode, ErrorEnvelope};
use countersign_protocol::schema::NO_NUL;
use serde_json::{Map, Value, json};

use super::schemas::{members, reference};
use crate::api::{jwks, tokens};
use crate::operation::Row;
use crate::reply::{ApiError, Habit};

/// The trace id of the examples.
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
/// A key that is neither an instance's nor a machine's.
const EITHER: &[ErrorCode] = &[
    ErrorCode::ClerkKeyInvalid,
    ErrorCode::MachineSecretKeyInvalid,
];
/// What any operation may refuse.
const ALWAYS: &[ErrorCode] = &[
    ErrorCode::ApiVersionInvalid,
    ErrorCode::HostInvalid,
    ErrorCode::InternalClerkError,
    ErrorCode::ServiceUnavailable,
];

/// The errors that an operation may answer with, by status.
#[derive(Default)]
pub(super) struct Refusals(BTreeMap<u16, (BTreeSet<ErrorCode>, Map<String, Value>)>);

impl Refusals {
    /// Adds an error, whose example is named after its code and what it is about.
    fn add(&mut self, error: ApiError, about: Option<&str>) {
        let code = error.code.name();
        let name = about.map_or(code.to_owned(), |about| format!("{code}_{about}"));
        let (codes, examples) = self.0.entry(error.code.status()).or_default();
        codes.insert(error.code);
        let names = (2..).map(|number| format!("{name}_{number}"));
        let mut names = std::iter::once(name.clone()).chain(names);
        let name = names.find(|name| !examples.contains_key(name));
        let summary = error.item.long_message.clone();
        let value = ErrorEnvelope::new(*error.item, TRACE_ID.to_owned());
        let example = json!({ "summary": summary, "value": value });
        examples.extend(name.map(|name| (name, example)));
    }

    /// Adds an error that stands above a handler: its code, perhaps a parameter or (a reason), and its text.
    pub(super) fn add_written(&mut self, code: ErrorCode, about: Option<&str>, text: &str) {
        let reason = about.and_then(|about| about.strip_prefix('(')?.strip_suffix(')'));
        let mut error = ApiError::saying(code, text.to_owned());
        *error.item = match (reason, about) {
            (Some(reason), _) => error.item.with_reason(reason.to_owned()),
            (None, Some(name)) if code != ErrorCode::BadRequest => {
                error.item.with_param(name.to_owned())
            }
            (None, _) => *error.item,
        };
        self.add(error, reason.or(about));
    }

    /// Adds the errors for an unknown or malformed id in the path.
    pub(super) fn add_id(&mut self, name: &str, example: &Value) {
        let noun = match name {
            "instance_id" => return self.add(jwks::no_such_instance(), None),
            "key_id" => "instance key",
            "kid" => "signing key",
            "m2m_token_id" => "token",
            _ => "machine",
        };
        if noun == "token" {
            self.add(tokens::malformed_id(), None);
        }
        let id = example.as_str().filter(|_| name != "key_id");
        let text = format!(
            "Resource not found: no {noun} {}",
            id.unwrap_or("of this id")
        );
        self.add(ApiError::saying(ErrorCode::ResourceNotFound, text), None);
    }

    /// Adds what may be wrong with a body or query of this schema.
    pub(super) fn add_members(&mut self, row: &Row, place: Place, schema: &Value) {
        // Bodies that are not read are not checked.
        if place == Place::Body && schema["additionalProperties"] != false {
            return;
        }
        let mut add = |name: &str, problem| {
            let invalid = Invalid::new(place, name.to_owned(), problem);
            self.add(ApiError::invalid(row.habit, &invalid), Some(name));
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            add(name.as_str().unwrap_or_default(), Problem::Missing);
        }
        for (name, member) in members(schema) {
            if let Some(right) = right_type(place, &member["type"]) {
                add(name, Problem::WrongType(right.into()));
            }
            for problem in out_of_bounds(member) {
                add(name, problem);
            }
            if place == Place::Query {
                add(name, Problem::Duplicate);
            }
        }
        if place == Place::Body {
            add("color", Problem::Unknown);
        }
    }

    /// Adds what follows from the row, and returns the schemes of its credential.
    pub(super) fn add_common(&mut self, row: &Row) -> &'static [&'static str] {
        use ErrorCode as Code;
        let (schemes, refused): (&[&str], &[Code]) = match row.accepts {
            // The handler takes a token as well.
            None if row.checks_credential => (&["instanceKey", "machineKey", "token"], EITHER),
            None => (&[], &[]),
            Some(Instance) => (&["instanceKey"], &[Code::ClerkKeyInvalid]),
            Some(Machine) => (&["machineKey"], &[Code::MachineSecretKeyInvalid]),
            Some(AnyForKeySet) => (&["instanceKey", "machineKey"], &[Code::ClerkKeyInvalid]),
            Some(Any) => (&["instanceKey", "machineKey"], EITHER),
        };
        let mut codes = [refused, ALWAYS].concat();
        if !schemes.is_empty() {
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
        for code in codes {
            self.add(ApiError::new(code), None);
        }
        schemes
    }

    /// Returns the answers by status.
    pub(super) fn into_responses(self) -> Map<String, Value> {
        let responses = self.0.into_iter().map(|(status, (codes, examples))| {
            let lines = codes
                .iter()
                .map(|code| format!("- `{}`: {}", code.name(), code.row().when));
            let own = match status {
                401 => Some("WWW-Authenticate"),
                429 | 503 => Some("Retry-After"),
                _ => None,
            };
            let headers = ["Clerk-Trace-Id"].into_iter().chain(own);
            let headers = headers.map(|name| {
                (
                    name.to_owned(),
                    json!({ "$ref": format!("#/components/headers/{name}") }),
                )
            });
            let content = json!({ "schema": reference("Errors"), "examples": examples });
            let response = json!({
                "description": lines.collect::<Vec<_>>().join("\n"),
                "headers": headers.collect::<Value>(),
                "content": { "application/json": content },
            });
            (status.to_string(), response)
        });
        responses.collect()
    }
}

fn right_type(place: Place, kind: &Value) -> Option<String> {
    let (kind, or_null) = match kind {
        Value::Array(kinds) => (kinds.first()?, " or null"),
        kind => (kind, ""),
    };
    Some(match (kind.as_str()?, place) {
        ("string", Place::Query) => return None,
        ("boolean", Place::Query) => "a boolean, true or false".to_owned(),
        ("array", _) => "an array of strings".to_owned(),
        (kind @ ("integer" | "object"), _) => format!("an {kind}{or_null}"),
        (kind, _) => format!("a {kind}{or_null}"),
    })
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

/// Everything under `components.headers`.
pub(super) fn header_components() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "required": true, "schema": schema });
    json!({
        "Clerk-Trace-Id": header(
            "The id of this request in the log.",
            json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        ),
        "WWW-Authenticate": header(
            "The scheme to authenticate with.",
            json!({ "type": "string", "const": "Bearer" }),
        ),
        "Retry-After": header("How many seconds to wait.", json!({ "type": "integer", "minimum": 1 })),
    })
}
