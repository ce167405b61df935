//! What needs no key, and what this authority does not have.

use super::{Description, JWKS, NEIGHBOURS, STATE, not_found};
use crate::openapi::examples;
use crate::openapi::node::Node;
use crate::openapi::schemas::{INSTANCE_ID, matching, one_of, typed};

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
    neighbour(
        "verifyAPIKey",
        "Verify an API key",
        "NeighbourSecret",
        r#"{"secret":"ak_…"}"#,
    )
}

pub(crate) fn oauth_token() -> Description {
    neighbour(
        "verifyOAuthAccessToken",
        "Verify an OAuth token",
        "NeighbourAccessToken",
        r#"{"access_token":"oat_…"}"#,
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
    .answers("The keys.", "Jwks", examples::jwks())
}

fn discovery(id: &'static str, summary: &'static str) -> Description {
    Description::new(
        id,
        JWKS,
        summary,
        "Where gateways and libraries that know only the issuer find the public keys (OpenID Connect Discovery 1.0). There is no \
         endpoint to sign in at: machines have keys.",
    )
    .answers("The issuer and its keys' address.", "OpenidConfiguration", examples::openid_configuration())
}

fn of_instance(description: Description) -> Description {
    description
        .path(
            "instance_id",
            matching(INSTANCE_ID, "The instance's id."),
            examples::INSTANCE,
        )
        .refuses([not_found("Resource not found: there is no such instance")])
}

fn neighbour(
    id: &'static str,
    summary: &'static str,
    schema: &'static str,
    example: &'static str,
) -> Description {
    Description::new(
        id,
        NEIGHBOURS,
        summary,
        "Always 404, so that an SDK that accepts any kind of token counts the one that it was shown as unknown.",
    )
    .optional_body(schema, &[("any", "Any", example)])
    .refuses([not_found("Resource not found: this authority has neither API keys nor OAuth tokens")])
}

pub(crate) fn openapi() -> Description {
    let mut description = Description::new(
        "getOpenAPI",
        STATE,
        "This document",
        "The description of this API, OpenAPI 3.1.",
    );
    let schema = typed("object").with("description", "An OpenAPI document.");
    let content = Node::object().with("schema", schema);
    description
        .successes
        .push(("200", answer("The document.", "application/json", content)));
    description
}

pub(crate) fn healthz() -> Description {
    let mut description = Description::new(
        "healthz",
        STATE,
        "Is the process alive?",
        "Says that the process answers, and nothing else.",
    );
    description.successes.push(("200", state("It is.", "ok\n")));
    description
}

pub(crate) fn readyz() -> Description {
    let mut description = Description::new(
        "readyz",
        STATE,
        "Can it do its work?",
        "Says whether the store can be read and written. Route no requests here while it cannot.",
    );
    description
        .successes
        .push(("200", state("It can.", "ready\n")));
    description.successes.push((
        "503",
        state(
            "Not now: the store does not answer, or the authority is overloaded.",
            "not ready\n",
        ),
    ));
    description
}

fn state(description: &'static str, text: &'static str) -> Node {
    answer(
        description,
        "text/plain",
        Node::object()
            .with("schema", one_of([text], "The state."))
            .with("example", text),
    )
}

fn answer(description: &'static str, content_type: &'static str, content: Node) -> Node {
    Node::object()
        .with("description", description)
        .with("content", Node::object().with(content_type, content))
}
