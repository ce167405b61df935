//! The answers that are no success, with texts and statuses from `ERROR_TABLE` and an example for each code.

use std::borrow::Cow;
use std::collections::BTreeMap;

use countersign_authority::Refusal as TokenRefusal;
use countersign_protocol::error::{ErrorCode, ErrorEnvelope, ErrorItem};

use serde_json::{Map, Value, json};

use super::schemas::reference;

/// The trace id of the examples.
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// An error that an operation may answer with.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    code: ErrorCode,
    long_message: Option<&'static str>,
    param: Option<&'static str>,
    reason: Option<TokenRefusal>,
    name: Option<&'static str>,
}

impl Refusal {
    /// The error with the texts of the table.
    pub(super) const fn new(code: ErrorCode) -> Self {
        Self {
            code,
            long_message: None,
            param: None,
            reason: None,
            name: None,
        }
    }

    /// The error as the operation words it.
    pub(super) fn saying(code: ErrorCode, long_message: &'static str) -> Self {
        Self {
            long_message: Some(long_message),
            ..Self::new(code)
        }
    }

    /// Names the parameter at fault.
    pub(super) const fn about(self, param: &'static str) -> Self {
        Self {
            param: Some(param),
            ..self
        }
    }

    /// Says why a token does not verify.
    pub(super) const fn because(self, reason: TokenRefusal) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    /// Tells the example from another one of the same code.
    pub(super) const fn called(self, name: &'static str) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    /// The example's name among those of its status.
    fn name(&self) -> Cow<'static, str> {
        if let Some(name) = self.name {
            return Cow::Borrowed(name);
        }
        let detail = self.reason.map(TokenRefusal::as_str).or(self.param);
        match detail {
            Some(detail) => format!("{}_{detail}", self.code.name()).into(),
            None => Cow::Borrowed(self.code.name()),
        }
    }

    fn example(&self) -> Value {
        let mut item = ErrorItem::new(self.code);
        if let Some(text) = self.long_message {
            item = item.with_long_message(text);
        }
        if let Some(param) = self.param {
            item = item.with_param(param);
        }
        if let Some(reason) = self.reason {
            item = item.with_reason(reason.as_str());
        }
        let summary = item.long_message.clone();
        json!({ "summary": summary, "value": ErrorEnvelope::new(item, TRACE_ID.to_owned()) })
    }
}

/// The answers by status, in the order of the statuses.
pub(super) fn responses(refusals: &[Refusal]) -> Vec<(String, Value)> {
    let mut by_status: BTreeMap<u16, Vec<&Refusal>> = BTreeMap::new();
    for refusal in refusals {
        by_status
            .entry(refusal.code.status())
            .or_default()
            .push(refusal);
    }
    by_status
        .into_iter()
        .map(|(status, refusals)| (status.to_string(), response(status, &refusals)))
        .collect()
}

fn response(status: u16, refusals: &[&Refusal]) -> Value {
    let mut codes: Vec<ErrorCode> = refusals.iter().map(|refusal| refusal.code).collect();
    codes.dedup();
    let lines: Vec<String> = codes
        .iter()
        .map(|code| format!("- `{}`: {}", code.name(), code.row().when))
        .collect();
    let examples = named(
        refusals
            .iter()
            .map(|refusal| (refusal.name(), refusal.example())),
    );
    json!({
        "description": lines.join("\n"),
        "headers": headers(status),
        "content": { "application/json": { "schema": reference("Errors"), "examples": examples } },
    })
}

/// An object of these members, none of which may stand twice.
pub(super) fn named(members: impl IntoIterator<Item = (impl Into<String>, Value)>) -> Value {
    let mut object = Map::new();
    for (name, value) in members {
        let name = name.into();
        assert!(!object.contains_key(&name), "a member stands twice: {name}");
        object.insert(name, value);
    }
    object.into()
}

fn headers(status: u16) -> Value {
    let header = |name: &str| {
        (
            name.to_owned(),
            json!({ "$ref": format!("#/components/headers/{name}") }),
        )
    };
    let own = match status {
        401 => Some("WWW-Authenticate"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    named(["Clerk-Trace-Id"].into_iter().chain(own).map(header))
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
