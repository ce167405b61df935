//! The table of error codes and the envelope that carries them (contract: error envelope and codes).
//!
//! One table gives code, status and texts; the JSON, the OpenAPI document and `docs/reference/errors.md` come from it.
//! A message may name a parameter or a value of the request, never a secret.

use std::borrow::Cow;
use std::fmt::Write as _;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A code of the table. The variants are in the order of their status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A request to a token route broke a rule.
    BadRequest,
    /// The request names no host, or one that is not served.
    HostInvalid,
    /// A JWT was asked for with a claim that the authority writes itself.
    MachineTokenReservedClaim,
    /// The body is no JSON document of the wanted kind.
    RequestBodyInvalid,
    /// A request line, path or query that cannot be read.
    MalformedRequestParameters,
    /// The API version is malformed or given twice.
    ApiVersionInvalid,
    /// No usable `Authorization` header.
    AuthorizationHeaderFormatInvalid,
    /// The instance key is unknown, or another kind of credential stands in its place.
    ClerkKeyInvalid,
    /// The machine key is unknown or expired, or another kind of credential stands in its place.
    MachineSecretKeyInvalid,
    /// The key is good and may not do this.
    AuthorizationInvalid,
    /// No such thing, or a token that does not verify.
    ResourceNotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// It exists already, or a limit on how many may exist is reached.
    Conflict,
    /// The body is larger than 64 KiB.
    RequestBodyTooLarge,
    /// The URI is longer than 8 KiB.
    UriTooLong,
    /// The body is not `application/json`.
    UnsupportedContentType,
    /// The header block has more than 100 lines or 32 KiB.
    RequestHeaderFieldsTooLarge,
    /// A required parameter is absent.
    FormParamMissing,
    /// A parameter has a value that is not allowed.
    FormParamValueInvalid,
    /// A parameter is not written as it must be.
    FormParamFormatInvalid,
    /// A parameter has another JSON type.
    FormParamTypeInvalid,
    /// A parameter that does not exist.
    FormParamUnknown,
    /// A text is too long.
    FormParamMaxLengthExceeded,
    /// A text is too short.
    FormParamMinLengthExceeded,
    /// A list has too many items.
    FormParamArraySizeExceeded,
    /// A number is too large.
    FormParamValueTooLarge,
    /// A parameter is given twice.
    FormParamDuplicate,
    /// A parameter names something that does not exist.
    FormResourceNotFound,
    /// Too many requests, or too many failed ones.
    TooManyRequests,
    /// A fault of the authority.
    InternalClerkError,
    /// The authority cannot answer now.
    ServiceUnavailable,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ErrorRow {
    /// The code.
    pub code: ErrorCode,
    /// The code as the wire carries it.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The short text.
    pub message: &'static str,
    /// The long text, used where the place of the error has nothing better to say.
    pub long_message: &'static str,
    /// When it is answered, and what to do; for the reference.
    pub when: &'static str,
}

const fn row(
    code: ErrorCode,
    name: &'static str,
    status: u16,
    message: &'static str,
    long_message: &'static str,
    when: &'static str,
) -> ErrorRow {
    ErrorRow {
        code,
        name,
        status,
        message,
        long_message,
        when,
    }
}

const CLERK_KEY_INVALID: &str =
    "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.";
const MACHINE_SECRET_KEY_INVALID: &str = "The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.";

/// The text of `resource_not_found` where it is the path that is unknown, not what it names. Clients tell a wrong address by it.
pub const NO_SUCH_PATH: &str = "Resource not found: there is no such path";

/// The table.
#[rustfmt::skip]
pub const ERROR_TABLE: &[ErrorRow] = &[
    row(ErrorCode::BadRequest, "bad_request", 400, "Bad Request", "The request is not valid",
        "A request to a token route breaks a rule. The long message names the place (`url_parameter.x`, `query.x` or `body.x`) and the rule."),
    row(ErrorCode::HostInvalid, "host_invalid", 400, "Invalid host", "The Host header is missing or not valid",
        "A request over HTTP/1.1 has no `Host` header, several, or an invalid one; or it asks an authority that answers its own machine only under another name."),
    row(ErrorCode::MachineTokenReservedClaim, "machine_token_reserved_claim", 400, "reserved claim used", "You can't use the reserved claim",
        "A JWT is asked for with a claim that the authority writes itself: `iss`, `sub`, `exp`, `nbf`, `iat`, `jti` or `scopes`. Choose another name."),
    row(ErrorCode::RequestBodyInvalid, "request_body_invalid", 400, "Request body invalid", "The request body is invalid. Please consult the API documentation for more information.",
        "A required body is missing, or the body is not a single JSON object in UTF-8, without duplicate members and at most 32 levels deep."),
    row(ErrorCode::MalformedRequestParameters, "malformed_request_parameters", 400, "Malformed request parameters", "The request parameters are malformed and could not be parsed",
        "The query or path cannot be decoded."),
    row(ErrorCode::ApiVersionInvalid, "api_version_invalid", 400, "API version is invalid", "The API version must be a date of the form YYYY-MM-DD, given once, in the Clerk-API-Version header or the __clerk_api_version query parameter",
        "`Clerk-API-Version` is malformed, or both the header and `__clerk_api_version` are given. Any well-formed date is accepted."),
    row(ErrorCode::AuthorizationHeaderFormatInvalid, "authorization_header_format_invalid", 401, "Invalid Authorization header format", "Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'",
        "The `Authorization` header is absent, empty, repeated or not of the Bearer scheme."),
    row(ErrorCode::ClerkKeyInvalid, "clerk_key_invalid", 401, CLERK_KEY_INVALID, CLERK_KEY_INVALID,
        "The instance key (`sk_…`) is unknown or revoked, or the route requires an instance key and got another credential."),
    row(ErrorCode::MachineSecretKeyInvalid, "machine_secret_key_invalid", 401, MACHINE_SECRET_KEY_INVALID, MACHINE_SECRET_KEY_INVALID,
        "The machine key (`ak_…`) is unknown or expired, or an instance key was used to create a token, which only a machine can."),
    row(ErrorCode::AuthorizationInvalid, "authorization_invalid", 403, "Unauthorized request", "You are not authorized to perform this request",
        "The key is good and may not do this: a machine lists another machine's tokens, or secrets are not revealed by this instance."),
    row(ErrorCode::ResourceNotFound, "resource_not_found", 404, "not found", "Resource not found",
        "Unknown path or id. From verify: the token is not valid for this caller; `meta.reason` (`unknown`, `revoked`, `expired`, `not_in_scope`) is given to those who may know."),
    row(ErrorCode::MethodNotAllowed, "method_not_allowed", 405, "Method not allowed", "This path does not take this method; the Allow header lists those it takes",
        "The path exists, the method does not."),
    row(ErrorCode::Conflict, "conflict", 409, "Conflict", "The request conflicts with the current state",
        "The request conflicts with the current state, such as an existing scope, a limit that is reached, or a key that is still needed. The long message says which."),
    row(ErrorCode::RequestBodyTooLarge, "request_body_too_large", 413, "Request body too large", "The request body must not exceed 65536 bytes",
        "The body exceeds 64 KiB (token routes answer 400 `bad_request`)."),
    row(ErrorCode::UriTooLong, "uri_too_long", 414, "URI too long", "The request target must not exceed 8192 bytes",
        "The path and query exceed 8 KiB."),
    row(ErrorCode::UnsupportedContentType, "unsupported_content_type", 415, "Content-Type header is not supported", "The Content-Type must be application/json, without compression",
        "The body is not `application/json` (token routes answer 400 `bad_request`)."),
    row(ErrorCode::FormParamMissing, "form_param_missing", 422, "is missing", "A required parameter must be included.",
        "A required parameter is absent; `meta.param_name` names it."),
    row(ErrorCode::FormParamValueInvalid, "form_param_value_invalid", 422, "is invalid", "A parameter has an invalid value.",
        "A value is not allowed; the long message says which values are."),
    row(ErrorCode::FormParamFormatInvalid, "form_param_format_invalid", 422, "is invalid", "A parameter is not in the right format.",
        "A value has the wrong format."),
    row(ErrorCode::FormParamTypeInvalid, "form_param_type_invalid", 422, "is invalid", "A parameter has the wrong type.",
        "A value has the wrong JSON type."),
    row(ErrorCode::FormParamUnknown, "form_param_unknown", 422, "is unknown", "A parameter is not known.",
        "A parameter does not exist. Check the spelling."),
    row(ErrorCode::FormParamMaxLengthExceeded, "form_param_max_length_exceeded", 422, "exceeds maximum length", "A parameter is too long.",
        "A text has too many characters."),
    row(ErrorCode::FormParamMinLengthExceeded, "form_param_min_length_exceeded", 422, "is below minimum length", "A parameter is too short.",
        "A text has too few characters."),
    row(ErrorCode::FormParamArraySizeExceeded, "form_param_array_size_exceeded", 422, "has too many items", "A parameter has too many items.",
        "A list has too many items: a machine may call at most 150 others."),
    row(ErrorCode::FormParamValueTooLarge, "form_param_value_too_large", 422, "is too large", "A parameter is too large.",
        "A number is larger than allowed."),
    row(ErrorCode::FormParamDuplicate, "form_param_duplicate", 422, "included multiple times", "A parameter must be included once.",
        "A query parameter is given more than once."),
    row(ErrorCode::FormResourceNotFound, "form_resource_not_found", 422, "is missing", "The resource associated with a supplied parameter was not found.",
        "A parameter names a machine that does not exist in this instance."),
    row(ErrorCode::TooManyRequests, "too_many_requests", 429, "Too many requests", "Too many requests in a given period of time, please retry later",
        "A configured rate limit is exceeded, too many requests with bad credentials came from one address, or a machine has used up its 100,000 changes and revocations of tokens. `Retry-After` gives the seconds to wait."),
    row(ErrorCode::RequestHeaderFieldsTooLarge, "request_header_fields_too_large", 431, "Request header fields too large", "The header must not exceed 100 lines and 32768 bytes",
        "The header block exceeds 100 lines or 32 KiB."),
    row(ErrorCode::InternalClerkError, "internal_clerk_error", 500, "Oops, an unexpected error occurred", "There was an internal error on our servers. We've been notified and are working on fixing it.",
        "An internal error of the authority. The log shows the cause under the trace id."),
    row(ErrorCode::ServiceUnavailable, "service_unavailable", 503, "Service unavailable", "The service is temporarily unable to answer, please retry later",
        "The authority is overloaded, stopping, or cannot reach or write its store. Nothing was acknowledged; `Retry-After` gives the seconds to wait."),
];

impl ErrorCode {
    /// The row of the table.
    #[must_use]
    pub fn row(self) -> &'static ErrorRow {
        ERROR_TABLE
            .iter()
            .find(|row| row.code == self)
            .expect("each code has a row, as a test shows")
    }

    /// The code as the wire carries it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().status
    }
}

/// Every error response has this body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Errors", transform = crate::schema::all_required))]
pub struct ErrorEnvelope {
    /// What went wrong: at least one error.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub errors: Vec<ErrorItem>,
    /// The id under which the log has this request; also in the header `Clerk-Trace-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(required, regex(pattern = "^[0-9a-f]{32}$"))
    )]
    pub clerk_trace_id: Option<String>,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Error"))]
pub struct ErrorItem {
    /// A short text.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub message: Cow<'static, str>,
    /// What is wrong, and what would be right.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub long_message: Cow<'static, str>,
    /// The code, for programs.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "String", regex(pattern = "^[a-z0-9_]+$"))
    )]
    pub code: Cow<'static, str>,
    /// What the error is about, where it is about one thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ErrorMeta"))]
    pub meta: Option<ErrorMeta>,
}

/// What an error is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(inline))]
pub struct ErrorMeta {
    /// The parameter at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub param_name: Option<Cow<'static, str>>,
    /// Why a token does not verify, for those who may know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("enum" = ["unknown", "revoked", "expired", "not_in_scope"])))]
    pub reason: Option<Cow<'static, str>>,
}

impl ErrorItem {
    /// The error with the texts of the table.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        let row = code.row();
        Self {
            message: Cow::Borrowed(row.message),
            long_message: Cow::Borrowed(row.long_message),
            code: Cow::Borrowed(row.name),
            meta: None,
        }
    }

    /// Replaces the long text.
    #[must_use]
    pub fn with_long_message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.long_message = text.into();
        self
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn with_param(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.meta.get_or_insert_default().param_name = Some(name.into());
        self
    }

    /// Says why a token does not verify.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.meta.get_or_insert_default().reason = Some(reason.into());
        self
    }
}

impl ErrorEnvelope {
    /// Puts one error into an envelope.
    #[must_use]
    pub fn new(item: ErrorItem, trace_id: String) -> Self {
        Self {
            errors: vec![item],
            clerk_trace_id: Some(trace_id),
        }
    }
}

/// The table as Markdown, for `docs/reference/errors.md`.
#[must_use]
pub fn error_reference() -> String {
    let mut page = String::from(
        "# Errors\n\nEvery error response has this body. The header `Clerk-Trace-Id` repeats the trace id. The log has\nfaults of the authority under it as errors, and refusals at the level `debug`:\n\n\
         ```json\n{\"errors\":[{\"message\":\"…\",\"long_message\":\"…\",\"code\":\"…\",\"meta\":{\"param_name\":\"…\"}}],\"clerk_trace_id\":\"…\"}\n```\n\n\
         This page is generated from the table in `crates/protocol/src/error.rs`.\n\n\
         | Status | Code | Message | When, and what to do |\n|---|---|---|---|\n",
    );
    for row in ERROR_TABLE {
        let _ = writeln!(
            page,
            "| {} | `{}` | {} | {} |",
            row.status, row.name, row.message, row.when
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_by_status_and_names_each_code_once() {
        assert!(ERROR_TABLE.is_sorted_by_key(|row| row.status));
        let mut names: Vec<_> = ERROR_TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ERROR_TABLE.len());
        for row in ERROR_TABLE {
            assert_eq!(row.code.name(), row.name);
        }
    }

    #[test]
    fn an_error_item_has_all_the_members_that_sdks_need() {
        let item = ErrorItem::new(ErrorCode::FormParamMissing).with_param("name");
        assert_eq!(
            serde_json::to_string(&item).expect("serializes"),
            r#"{"message":"is missing","long_message":"A required parameter must be included.","code":"form_param_missing","meta":{"param_name":"name"}}"#
        );
    }
}
