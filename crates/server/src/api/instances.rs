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

/// `GET /countersign/instance`
pub(crate) async fn get(call: &Call<'_>) -> Result<Answer, ApiError> {
    let instance = call.app.authority.instance(call.actor()?).await;
    let instance = instance.map_err(|error| call.refused(error))?;
    ok(&json!(instance_body(instance)))
}

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
