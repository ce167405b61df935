//! `/countersign/…`: the caller's own instance, its keys and settings, and who the caller is. Our extensions.
//!
//! Their members are sorted on the wire at every level; `json!` sorts those of types that stand elsewhere in another order.

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

pub(crate) const WHO_AM_I: &str = r#"Who am I: Show what I hold

Tells what the presented credential is: an instance key, a machine key, or a token, be it opaque or a JWT. It is the one operation
that takes a token as the credential, so whoever holds one can see what it says.

- 200: What the credential is.
  - instance: An instance key `{"kind":"instance"}`
  - machine: A machine key `{"kind":"machine"}`
  - token: A token `{"kind":"token","token":{"last_used_at":1767225660000,"updated_at":1767225660000}}`
- machine_secret_key_invalid: The presented token is not valid: expired
"#;

/// `GET /countersign/whoami`: what the presented credential is, be it an instance key, a machine key or a token.
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

Changes the settings that are given and leaves the others. They hold for the next request. Take care with `rate_limit`: it counts
this key's requests as well.

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

The keys of the instance, oldest first, those that were revoked included. The keys themselves are never shown again.

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

Another key with the same rights, to replace one without an outage: create, hand out, revoke the old one. At most 20 work at a time.

- 200: The key. It is shown this once.
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

From this answer on the key is refused, also where it is the one that asks. The last key that works cannot be revoked.

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
