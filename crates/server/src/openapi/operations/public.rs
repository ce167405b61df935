//! What needs no key, and what this authority does not have.

use countersign_protocol::body::Jwks;
use countersign_protocol::ids::InstanceId;
use countersign_protocol::instance::OpenidConfiguration;
use countersign_protocol::request::{ApiKeyQuestion, OauthTokenQuestion};
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{Description, JWKS, NEIGHBOURS, STATE, not_found};

pub(crate) fn jwks() -> Description {
    keys("getPublicJWKS", "Public keys")
}

pub(crate) fn instance_jwks() -> Description {
    of_instance(keys("getInstancePublicJWKS", "Public keys of an instance"))
}

pub(crate) fn configuration() -> Description {
    discovery("getOpenIDConfiguration", "Discovery")
}

pub(crate) fn instance_configuration() -> Description {
    of_instance(discovery(
        "getInstanceOpenIDConfiguration",
        "Discovery of an instance",
    ))
}

pub(crate) fn api_key() -> Description {
    neighbour::<ApiKeyQuestion>(
        "verifyAPIKey",
        "Verify an API key",
        &[("any", "Any", r#"{"secret":"ak_…"}"#)],
    )
}

pub(crate) fn oauth_token() -> Description {
    neighbour::<OauthTokenQuestion>(
        "verifyOAuthAccessToken",
        "Verify an OAuth token",
        &[("any", "Any", r#"{"access_token":"oat_…"}"#)],
    )
}

fn keys(id: &'static str, summary: &'static str) -> Description {
    Description::new(
        id,
        JWKS,
        summary,
        "The keys that check JWTs (RFC 7517), for everybody. Without an id in the path they are those of the first instance. They \
         may be kept for five minutes; on an unknown `kid`, fetch again.",
    )
    .answers::<Jwks>("The keys.", "{}")
}

fn discovery(id: &'static str, summary: &'static str) -> Description {
    Description::new(
        id,
        JWKS,
        summary,
        "Where gateways and libraries that know only the issuer find the public keys (OpenID Connect Discovery 1.0). There is no \
         endpoint to sign in at: machines have keys.",
    )
    .answers::<OpenidConfiguration>("The issuer and its keys' address.", "{}")
}

fn of_instance(description: Description) -> Description {
    description
        .path::<InstanceId>("instance_id", "The instance's id.")
        .refuses([not_found("Resource not found: there is no such instance")])
}

fn neighbour<T: JsonSchema>(
    id: &'static str,
    summary: &'static str,
    examples: &'static [(&'static str, &'static str, &'static str)],
) -> Description {
    Description::new(
        id,
        NEIGHBOURS,
        summary,
        "Always 404, so that an SDK that accepts any kind of token counts the one that it was shown as unknown.",
    )
    .optional_body::<T>(examples)
    .refuses([not_found("Resource not found: this authority has neither API keys nor OAuth tokens")])
}

pub(crate) fn openapi() -> Description {
    let schema = json!({ "type": "object", "description": "An OpenAPI document." });
    other(
        Description::new(
            "getOpenAPI",
            STATE,
            "This document",
            "The description of this API, OpenAPI 3.1.",
        ),
        (
            "200",
            "The document.",
            json!({ "application/json": { "schema": schema } }),
        ),
    )
}

pub(crate) fn healthz() -> Description {
    let text = "Says that the process answers, and nothing else.";
    other(
        Description::new("healthz", STATE, "Is the process alive?", text),
        state("200", "It is.", "ok\n"),
    )
}

pub(crate) fn readyz() -> Description {
    let text =
        "Says whether the store can be read and written. Route no requests here while it cannot.";
    let ready = other(
        Description::new("readyz", STATE, "Can it do its work?", text),
        state("200", "It can.", "ready\n"),
    );
    let not_ready = "Not now: the store does not answer, or the authority is overloaded.";
    other(ready, state("503", not_ready, "not ready\n"))
}

type Other = (&'static str, &'static str, Value);

fn state(status: &'static str, description: &'static str, text: &'static str) -> Other {
    let schema = json!({ "type": "string", "enum": [text], "description": "The state." });
    (
        status,
        description,
        json!({ "text/plain": { "schema": schema, "example": text } }),
    )
}

fn other(mut description: Description, other: Other) -> Description {
    description.others.push(other);
    description
}
