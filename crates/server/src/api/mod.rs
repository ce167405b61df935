//! The handlers: parse, call one method of the authority, wrap. One file per noun.

mod changes;
pub(crate) mod docs;
mod instances;
mod jwks;
mod machines;
mod state;
mod tokens;

use crate::call::Call;
use crate::reply::{Answer, ApiError};
use crate::route::Operation;

/// Hands a request to its handler.
pub(crate) async fn handle(call: &Call<'_>) -> Result<Answer, ApiError> {
    match call.row.operation {
        Operation::VerifyToken => tokens::verify(call).await,
        Operation::CreateToken => tokens::create(call).await,
        Operation::ListTokens => tokens::list(call).await,
        Operation::UpdateToken => tokens::update(call).await,
        Operation::RevokeToken => tokens::revoke(call).await,
        Operation::ListMachines => machines::list(call).await,
        Operation::CreateMachine => machines::create(call).await,
        Operation::GetMachine => machines::get(call).await,
        Operation::UpdateMachine => machines::update(call).await,
        Operation::DeleteMachine => machines::delete(call).await,
        Operation::GetSecretKey => machines::secret_key(call).await,
        Operation::RotateSecretKey => machines::rotate_secret_key(call).await,
        Operation::CreateScope => machines::create_scope(call).await,
        Operation::DeleteScope => machines::delete_scope(call).await,
        Operation::Jwks => jwks::of_caller(call),
        Operation::PublicJwks | Operation::InstanceJwks => jwks::public(call).await,
        Operation::OpenidConfiguration | Operation::InstanceOpenidConfiguration => {
            jwks::openid_configuration(call).await
        }
        Operation::VerifyApiKey | Operation::VerifyOauthToken => Err(tokens::neighbour()),
        Operation::WhoAmI => instances::who_am_i(call).await,
        Operation::GetInstance => instances::get(call).await,
        Operation::UpdateInstance => instances::update(call).await,
        Operation::ListInstanceKeys => instances::list_keys(call).await,
        Operation::CreateInstanceKey => instances::create_key(call).await,
        Operation::RevokeInstanceKey => instances::revoke_key(call).await,
        Operation::ListSigningKeys => jwks::list_signing_keys(call).await,
        Operation::RotateSigningKey => jwks::rotate_signing_key(call).await,
        Operation::DeleteSigningKey => jwks::delete_signing_key(call).await,
        Operation::ListChanges => changes::list(call).await,
        Operation::Openapi => Ok(docs::openapi(call)),
        Operation::Swagger => Ok(docs::swagger(call)),
        Operation::SwaggerAsset => docs::asset(call),
        Operation::Healthz => Ok(state::healthz()),
        Operation::Readyz => state::readyz(call).await,
        Operation::Metrics => state::metrics(call),
    }
}
