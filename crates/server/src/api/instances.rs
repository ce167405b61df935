//! `/countersign/…`: the caller's own instance, its keys and settings, and who the caller is. Our extensions.
//!
//! Members are sorted on the wire at every level. `json!` also sorts members of types that other routes write in another order.

use countersign_authority::{Error, InstanceInfo, WhoAmI};
use countersign_protocol::body::{ExposedSecret, List};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::instance::{
    CreatedInstanceKey, DeletedInstanceKey, Instance, InstanceKeyTag, InstanceKindTag, InstanceTag,
    MachineKindTag, TokenKindTag, WhoAmIInstance, WhoAmIMachine, WhoAmITag, WhoAmIToken,
};
use countersign_protocol::request::{InstanceKeyRequest, InstanceUpdate};
use serde_json::json;

use crate::call::Call;
use crate::reply::{Answer, ApiError, ok};

pub(crate) const WHO_AM_I: &str = r#"Who am I: Identify a credential

Shows what the presented credential is: an instance key, a machine key, or a token (opaque or JWT). No other operation accepts a
token as the credential. Use it to see what a token says.

- 200: What the credential is.
  - instance: An instance key `{"kind":"instance"}`
  - machine: A machine key `{"kind":"machine"}`
  - token: A token `{"kind":"token","token":{"last_used_at":1767225660000,"updated_at":1767225660000}}`
- machine_secret_key_invalid: The presented token is not valid: expired
"#;

/// `GET /countersign/whoami`: returns what the presented credential is: an instance key, a machine key or a token.
pub(crate) async fn who_am_i(call: &Call<'_>) -> Result<Answer, ApiError> {
    match call.app.authority.whoami(call.credential()?).await {
        Ok(WhoAmI::Machine {
            instance_id,
            machine_id,
            name,
            may_call,
        }) => ok(&WhoAmIMachine {
            instance_id,
            kind: MachineKindTag::Tag,
            machine_id,
            may_call,
            name,
            object: WhoAmITag::Tag,
        }),
        Ok(WhoAmI::Instance {
            instance_id,
            key_id,
            name,
        }) => ok(&WhoAmIInstance {
            instance_id,
            key_id,
            kind: InstanceKindTag::Tag,
            name,
            object: WhoAmITag::Tag,
        }),
        Ok(WhoAmI::Token { token }) => ok(&json!(WhoAmIToken {
            kind: TokenKindTag::Tag,
            machine_id: token.subject,
            object: WhoAmITag::Tag,
            token,
        })),
        Err(Error::TokenRefused { refusal, .. }) => {
            call.app.failed(call.address)?;
            let text = format!("The presented token is not valid: {}", refusal.as_str());
            Err(ApiError::saying(ErrorCode::MachineSecretKeyInvalid, text))
        }
        Err(error) => Err(call.unauthenticated(error)),
    }
}

pub(crate) const GET: &str = "Instance: Show my instance

The instance that the key belongs to, with its settings.

- 200: The instance.
";

/// `GET /countersign/instance`
pub(crate) async fn get(call: &Call<'_>) -> Result<Answer, ApiError> {
    let instance = call.app.authority.instance(call.actor()?).await;
    let instance = instance.map_err(|error| call.refused(error))?;
    ok(&json!(instance_body(instance)))
}

pub(crate) const UPDATE: &str = r#"Instance: Change settings

Changes the given settings and leaves the others unchanged. New values apply from the next request. `rate_limit` counts requests
with machine keys only; requests with instance keys are not counted.

- 200: The instance as it is now. `{"settings":{"max_jwt_ttl":86400,"secret_reveal":false}}`
- form_param_type_invalid secret_reveal: `secret_reveal` must be true or false.
- form_param_value_invalid issuer: issuer must be a URL in ASCII of at most 255 characters, without a slash at its end.
"#;

/// `PATCH /countersign/instance`
pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    let InstanceUpdate { settings } = call.read()?;
    let updated = call
        .app
        .authority
        .update_instance_settings(call.actor()?, &settings)
        .await;
    let instance = updated.map_err(|error| call.refused(error))?;
    ok(&json!(instance_body(instance)))
}

pub(crate) const LIST_KEYS: &str = "Instance: List instance keys

Lists the keys of the instance, oldest first, including revoked ones. The list does not contain the secret keys themselves.

- 200: The keys.
";

/// `GET /countersign/instance_keys`
pub(crate) async fn list_keys(call: &Call<'_>) -> Result<Answer, ApiError> {
    let keys = call
        .app
        .authority
        .instance_keys(call.actor()?)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&json!(List::whole(keys)))
}

pub(crate) const CREATE_KEY: &str = "Instance: Create an instance key

Creates another key with the same rights. To replace a key without an outage, create a new one, deploy it, then revoke the old one.
An instance has at most 20 live keys.

- 200: The key. It is shown only once.
- conflict: the instance has 20 live keys, which is the maximum; revoke one first
";

/// `POST /countersign/instance_keys`
pub(crate) async fn create_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let InstanceKeyRequest { live } = call.read()?;
    let created = call
        .app
        .authority
        .create_instance_key(call.actor()?, live.unwrap_or(true))
        .await
        .map_err(|error| call.refused(error))?;
    ok(&CreatedInstanceKey {
        created_at: created.info.created_at,
        id: created.info.id,
        object: InstanceKeyTag::Tag,
        secret_key: Some(ExposedSecret(created.key.expose().to_owned())),
    })
}

pub(crate) const REVOKE_KEY: &str = "Instance: Revoke an instance key

The key is rejected as soon as this request succeeds, even if it is the key that sent the request. The last live key cannot be revoked.

- 200: The key no longer works.
- conflict: this is the only live key of the instance; create another one first
";

/// `DELETE /countersign/instance_keys/{key_id}`
pub(crate) async fn revoke_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let [key_id, _] = call.captures;
    let id = call
        .app
        .authority
        .revoke_instance_key(call.actor()?, key_id)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&DeletedInstanceKey {
        deleted: true,
        id,
        object: InstanceKeyTag::Tag,
    })
}

pub(super) fn instance_body(instance: InstanceInfo) -> Instance {
    Instance {
        created_at: instance.created_at,
        id: instance.id,
        issuer: instance.issuer,
        name: instance.name,
        object: InstanceTag::Tag,
        secret_key: None,
        settings: instance.settings,
    }
}
