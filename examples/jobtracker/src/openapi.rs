//! The description of the API, and the page that shows it.
//!
//! The page is Swagger UI, of which this repository has one copy, beside the server's own page. A project of its own takes the two
//! files from the package `swagger-ui-dist`. Nothing comes from another origin.

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use axum::response::Html;
use serde_json::{Value, json};

use crate::status::Status;

/// What the page may do: load its own files, draw Swagger UI's icons, and call this API.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

type File = ([(HeaderName, &'static str); 1], &'static [u8]);

/// `GET /swagger`
pub(crate) async fn page() -> ([(HeaderName, &'static str); 1], Html<&'static str>) {
    let page = include_str!("../swagger/page.html");
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(page))
}

/// `GET /swagger/{file}`
pub(crate) async fn file(Path(name): Path<String>) -> Result<File, StatusCode> {
    let (content_type, content): (_, &[u8]) = match name.as_str() {
        "initialize.js" => (
            "text/javascript",
            include_bytes!("../swagger/initialize.js"),
        ),
        "swagger-ui-bundle.js" => (
            "text/javascript",
            include_bytes!("../../../crates/server/assets/swagger-ui/swagger-ui-bundle.js"),
        ),
        "swagger-ui.css" => (
            "text/css",
            include_bytes!("../../../crates/server/assets/swagger-ui/swagger-ui.css"),
        ),
        _ => return Err(StatusCode::NOT_FOUND),
    };
    Ok(([(CONTENT_TYPE, content_type)], content))
}

/// `GET /openapi.json`
pub(crate) async fn document() -> Json<Value> {
    let users_and_machines = json!([{ "user": [] }, { "machine": [] }]);
    let machines = json!([{ "machine": [] }]);
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Job tracker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Users see what is theirs; the bots CandidateRepresenter and JobApplier see everything. \
                Both send a bearer token: a JWT of the users' issuer, or an M2M token of the authority.",
        },
        "tags": [{ "name": "applications" }, { "name": "users" }],
        "components": { "securitySchemes": security_schemes(), "schemas": schemas(), "parameters": {
            "application": { "name": "id", "in": "path", "required": true, "schema": { "type": "string" }, "example": "app_1001" },
            "user": { "name": "id", "in": "path", "required": true, "schema": { "type": "string" }, "example": "user_ada" },
        } },
        "paths": {
            "/applications/{id}": { "get": {
                "operationId": "getApplication",
                "tags": ["applications"],
                "summary": "An application",
                "security": users_and_machines,
                "parameters": [{ "$ref": "#/components/parameters/application" }],
                "responses": responses(json_of("The application", "Application"), &[401, 404, 503]),
            } },
            "/applications/{id}/status": { "put": {
                "operationId": "updateStatus",
                "tags": ["applications"],
                "summary": "Changes how far an application is",
                "description": "Users change the status of their own applications; only JobApplier sets `submitted`.",
                "security": users_and_machines,
                "parameters": [{ "$ref": "#/components/parameters/application" }],
                "requestBody": { "required": true, "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/StatusChange" },
                } } },
                "responses": responses(json_of("The application as it is now", "Application"), &[400, 401, 403, 404, 409, 415, 422, 503]),
            } },
            "/applications/{id}/resume": { "get": {
                "operationId": "downloadResume",
                "tags": ["applications"],
                "summary": "The résumé that goes with an application",
                "security": users_and_machines,
                "parameters": [{ "$ref": "#/components/parameters/application" }],
                "responses": responses(json!({
                    "description": "The file",
                    "content": { "application/pdf": {} },
                }), &[401, 404, 503]),
            } },
            "/applications/take": { "post": {
                "operationId": "takeApplication",
                "tags": ["applications"],
                "summary": "Takes the oldest queued application",
                "description": "For JobApplier only. For ten minutes nobody else gets the same.",
                "security": machines,
                "responses": {
                    "200": json_of("The application", "Application"),
                    "204": { "description": "None is queued" },
                    "401": error(401),
                    "403": error(403),
                    "503": error(503),
                },
            } },
            "/users/{id}": { "get": {
                "operationId": "getUser",
                "tags": ["users"],
                "summary": "A user",
                "security": users_and_machines,
                "parameters": [{ "$ref": "#/components/parameters/user" }],
                "responses": responses(json_of("The user", "User"), &[401, 404, 503]),
            } },
        },
    }))
}

fn security_schemes() -> Value {
    json!({
        "user": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A user's JWT. The local issuer signs one at `/token?user=user_ada`.",
        },
        "machine": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "mt_… or JWT",
            "description": "A machine's M2M token, opaque or JWT. Where both boxes are filled, one of the two is sent: log out of the other.",
        },
    })
}

fn schemas() -> Value {
    let status: Vec<_> = Status::all().map(Status::as_str).collect();
    json!({
        "Status": { "type": "string", "enum": status },
        "StatusChange": {
            "type": "object",
            "required": ["status"],
            "properties": { "status": { "$ref": "#/components/schemas/Status" } },
        },
        "Application": {
            "type": "object",
            "required": ["id", "user_id", "company", "position", "status", "queued_at", "submitted_at"],
            "properties": {
                "id": { "type": "string" },
                "user_id": { "type": "string" },
                "company": { "type": "string" },
                "position": { "type": "string" },
                "status": { "$ref": "#/components/schemas/Status" },
                "queued_at": { "type": "string", "format": "date-time" },
                "submitted_at": { "type": ["string", "null"], "format": "date-time" },
            },
        },
        "User": {
            "type": "object",
            "required": ["id", "name", "email"],
            "properties": {
                "id": { "type": "string" },
                "name": { "type": "string" },
                "email": { "type": "string" },
            },
        },
        "Error": {
            "type": "object",
            "required": ["reason", "message"],
            "properties": {
                "reason": { "type": "string", "description": "For programs" },
                "message": { "type": "string", "description": "For people" },
                "hint": { "type": "string", "description": "What to do, where the token is the reason" },
            },
        },
    })
}

/// The good answer and those that have these statuses.
fn responses(good: Value, errors: &[u16]) -> Value {
    let errors = errors
        .iter()
        .map(|status| (status.to_string(), error(*status)));
    Value::Object(
        std::iter::once(("200".to_owned(), good))
            .chain(errors)
            .collect(),
    )
}

fn error(status: u16) -> Value {
    let description = match status {
        400 => "The body is no JSON",
        401 => "Token verification failed, or none was sent",
        403 => "The endpoint, or this status, is for another caller",
        404 => "There is none of this id, or it is not the user's",
        409 => "The application cannot become that now; the message says what it can become",
        415 => "The content type is not `application/json`",
        422 => "The body is JSON of another shape",
        503 => "The token cannot be checked now; try again with the same one",
        _ => "An error",
    };
    json_of(description, "Error")
}

fn json_of(description: &str, schema: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/json": {
            "schema": { "$ref": format!("#/components/schemas/{schema}") },
        } },
    })
}
