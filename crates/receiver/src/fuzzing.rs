//! What a receiver reads of strangers and of issuers, for the fuzz target `receiver`. No part of the product.

use std::sync::Arc;

use countersign_protocol::ids::MachineId;
use http::HeaderMap;

use crate::clock::{SystemClock, Time};
use crate::credential::{Credential, bearer};
use crate::events::Events;
use crate::jwks::KeySet;
use crate::jwt::Jwt;
use crate::keys::Keys;
use crate::machine_jwt::{MachineIssuer, MachineJwts};
use crate::remote::{Asking, Document};
use crate::user_jwt::UserIssuer;

/// How many keys of a key set can be used.
#[must_use]
pub fn usable_keys(document: &[u8]) -> Option<usize> {
    KeySet::read(document, false).ok().map(|set| set.len())
}

/// The token that would be checked, and by which kind of check.
#[must_use]
pub fn credential(headers: &HeaderMap) -> Option<(&'static str, &str)> {
    let token = bearer(headers).ok()??;
    Some(match Credential::of(token).ok()? {
        Credential::Other => ("other", token),
        Credential::Opaque(token) => ("opaque", token),
        Credential::Jwt(token) => ("jwt", token),
    })
}

/// Whether the head of a user's JWT can be read.
#[must_use]
pub fn is_jwt_read(token: &str) -> bool {
    Jwt::read(token).is_ok()
}

/// The machine that a signed payload names.
#[must_use]
pub fn machine_of(issuer: &str, payload: Vec<u8>) -> Option<MachineId> {
    let time = Arc::new(Time::new(Arc::new(SystemClock::start())));
    let keys = Keys::new(
        Arc::new(NoDocument),
        true,
        Arc::clone(&time),
        Events::default(),
    );
    let issuer = MachineIssuer::new(issuer).trust_scopes_claim();
    let machines = MachineJwts::new(&issuer, keys, time);
    let (caller, _) = machines.read(payload).ok()?;
    Some(caller.id())
}

/// The user whom a signed payload names to a service of this audience.
#[must_use]
pub fn user_of(audience: &str, payload: &[u8]) -> Option<String> {
    let issuer = UserIssuer::new("https://issuer.example.com").audience(audience);
    let mut claims = countersign_protocol::json::Object::parse(payload).ok()?;
    let user = issuer.read(&mut claims).ok()?;
    Some(user.subject.into())
}

struct NoDocument;

impl Document for NoDocument {
    fn url(&self) -> &'static str {
        "https://issuer.example.com"
    }

    fn fetch(&self) -> Asking<'_, Result<Vec<u8>, String>> {
        Box::pin(async { Err("nothing is fetched".to_owned()) })
    }
}
