//! `/countersign/…`: the caller's own instance, its keys and settings, and who the caller is. Our extensions.

use countersign_authority::{Accepts, Error, Instance, Problem};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::json;
use countersign_protocol::jwt::looks_like_jwt;
use countersign_protocol::secret::{InstanceKey, MachineKey};
use serde_json::{Value, json};

use crate::app::Call;
use crate::fields::{Body, Presence, read_integer};
use crate::reply::{Answer, ApiError, Habit, ok};

/// `GET /countersign/whoami`: what the presented credential is, be it an instance key, a machine key or a token.
pub(crate) async fn who_am_i(call: &Call<'_>) -> Result<Answer, ApiError> {
    let credential = call.app.credential(call.headers, call.address)?;
    if credential.starts_with(InstanceKey::PREFIX) || credential.starts_with(MachineKey::PREFIX) {
        let actor = match call
            .app
            .authority
            .authenticate(credential, Accepts::Any)
            .await
        {
            Ok(actor) => actor,
            Err(error) => return Err(refused(call, error)),
        };
        let instance = actor.instance();
        return match actor.machine() {
            Some(machine) => ok(&json!({
                "object": "whoami",
                "kind": "machine",
                "instance_id": instance.id,
                "machine_id": machine.id,
                "name": machine.name,
                "may_call": machine.scopes,
            })),
            None => ok(&json!({
                "object": "whoami", "kind": "instance", "instance_id": instance.id, "key_id": actor.name(), "name": instance.name,
            })),
        };
    }
    if credential.starts_with("mt_") || looks_like_jwt(credential) {
        return match call.app.authority.introspect_own(credential).await {
            Ok(token) => ok(
                &json!({ "object": "whoami", "kind": "token", "machine_id": token.subject, "token": token }),
            ),
            Err(Error::TokenRefused { refusal, .. }) => {
                call.app.failed(call.address)?;
                let text = format!("The presented token is not valid: {}", refusal.as_str());
                Err(ApiError::saying(ErrorCode::MachineSecretKeyInvalid, text))
            }
            Err(error) => Err(call.refused(error)),
        };
    }
    call.app.failed(call.address)?;
    Err(ApiError::new(ErrorCode::AuthorizationHeaderFormatInvalid))
}

fn refused(call: &Call<'_>, error: Error) -> ApiError {
    if matches!(error, Error::InstanceKeyInvalid | Error::MachineKeyInvalid)
        && let Err(limited) = call.app.failed(call.address)
    {
        return limited;
    }
    ApiError::from_authority(Habit::Parameters, error)
}

/// `GET /countersign/instance`
pub(crate) fn get(call: &Call<'_>) -> Result<Answer, ApiError> {
    ok(&instance_body(call, call.actor()?.instance()))
}

/// `PATCH /countersign/instance`
pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, Habit::Parameters, Presence::Required)?;
    let settings = body
        .raw("settings")
        .ok_or_else(|| body.wrong("settings", Problem::Missing))?;
    body.finish()?;
    let unreadable = |error: String| {
        ApiError::saying(ErrorCode::RequestBodyInvalid, format!("settings: {error}"))
    };
    json::check(settings).map_err(|error| unreadable(error.to_string()))?;
    let mut settings: Value =
        serde_json::from_str(settings.get()).map_err(|error| unreadable(error.to_string()))?;
    write_whole_numbers(&mut settings);
    let updated = call
        .app
        .authority
        .update_instance_settings(call.actor()?, &settings)
        .await;
    let instance = updated.map_err(|error| call.refused(error))?;
    tracing::info!(instance.id = %instance.id, actor = call.actor()?.name(), "instance settings updated");
    ok(&instance_body(call, &instance))
}

/// `GET /countersign/instance_keys`
pub(crate) async fn list_keys(call: &Call<'_>) -> Result<Answer, ApiError> {
    let keys = call
        .app
        .authority
        .instance_keys(call.actor()?)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&json!({ "data": keys, "total_count": keys.len() }))
}

/// `POST /countersign/instance_keys`
pub(crate) async fn create_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, Habit::Parameters, Presence::Optional)?;
    let is_live = body.boolean("live")?.unwrap_or(true);
    body.finish()?;
    let created = call
        .app
        .authority
        .create_instance_key(call.actor()?, is_live)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(
        key.id = created.info.id,
        actor = call.actor()?.name(),
        "instance key created"
    );
    ok(&json!({
        "object": "instance_key", "id": created.info.id, "created_at": created.info.created_at, "secret_key": created.key.expose(),
    }))
}

/// `DELETE /countersign/instance_keys/{key_id}`
pub(crate) async fn revoke_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let [key_id, _] = call.captures;
    call.app
        .authority
        .revoke_instance_key(call.actor()?, key_id)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(
        key.id = key_id,
        actor = call.actor()?.name(),
        "instance key revoked"
    );
    ok(&json!({ "object": "instance_key", "id": key_id, "deleted": true }))
}

/// Makes `3600.0` the integer that it is everywhere else (contract: ten things that break SDKs).
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Object(members) => members.values_mut().for_each(write_whole_numbers),
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = read_integer(&number.to_string()) {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

fn instance_body(call: &Call<'_>, instance: &Instance) -> Value {
    json!({
        "object": "instance",
        "id": instance.id,
        "name": instance.name,
        "created_at": instance.created_at,
        "issuer": call.app.authority.issuer(instance),
        "settings": instance.settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_take_whole_numbers_in_any_notation() {
        let mut settings = json!({"max_jwt_ttl": 3600.0, "rate_limit": {"requests": 1e3, "seconds": 10}, "fraction": 0.5});
        write_whole_numbers(&mut settings);
        let expected = json!({"max_jwt_ttl": 3600, "rate_limit": {"requests": 1000, "seconds": 10}, "fraction": 0.5});
        assert_eq!(settings, expected);
    }
}
