//! The table of operations and the search in it. The router, the metrics' labels, `Allow` and the OpenAPI document come from
//! the table.

use countersign_authority::Accepts::{Any, AnyForKeySet, Instance, Machine};
use countersign_protocol::body::{
    self, ChangeList, ChangeLogReport, DeletedMachine, DeletedMachineScope, Jwks, List, M2mToken,
    M2mTokenCreated, M2mTokenList, MachineCreated, MachineScope, MachineSecretKey,
};
use countersign_protocol::instance::{
    self, CreatedInstanceKey, DeletedInstanceKey, DeletedSigningKey, InstanceKeyInfo,
    OpenidConfiguration, SigningKeyInfo, WhoAmI,
};
use countersign_protocol::request::{
    ApiKeyQuestion, InstanceKeyRequest, InstanceRequest, InstanceUpdate, IssueRequest, KeyRotation,
    ListChanges, ListMachines, ListTokens, MachineRequest, MachineUpdate, OauthTokenQuestion,
    RevokeRequest, ScopeRequest, SigningKeyRotation, UpdateRequest, VerifyChanges, VerifyRequest,
};
use http::Method;

use crate::api::{changes, docs, instances, jwks, machines, operator, state, tokens};
use crate::call::Captures;
use crate::openapi::Description;
use crate::operation::{Handling, Listeners, Prefix, Row};
use crate::reply::{Answer, ApiError};

/// The operations; the most frequent first, because the router goes from top to bottom.
pub(crate) const ROWS: &[Row] = &[
    Row::api(
        "VerifyToken",
        &Method::POST,
        "/m2m_tokens/verify",
        Any,
        |call| Box::pin(tokens::verify(call)),
    )
    .bad_request()
    .checks_credential()
    .at_once()
    .at_door(|call, _| Box::pin(operator::verify(call)))
    .takes::<VerifyRequest<'_>>()
    .answers::<M2mToken>()
    .described("verifyM2MToken", tokens::VERIFY),
    Row::api(
        "CreateToken",
        &Method::POST,
        "/m2m_tokens",
        Machine,
        |call| Box::pin(tokens::create(call)),
    )
    .bad_request()
    .takes::<IssueRequest>()
    .answers::<M2mTokenCreated>()
    .described("createM2MToken", tokens::CREATE),
    Row::api("ListTokens", &Method::GET, "/m2m_tokens", Any, |call| {
        Box::pin(tokens::list(call))
    })
    .bad_request()
    .asks::<ListTokens>()
    .answers::<M2mTokenList>()
    .described("listM2MTokens", tokens::LIST),
    Row::api(
        "UpdateToken",
        &Method::PATCH,
        "/m2m_tokens/{m2m_token_id}",
        Any,
        |call| Box::pin(tokens::update(call)),
    )
    .bad_request()
    .may_take::<UpdateRequest>()
    .answers::<M2mToken>()
    .described("updateM2MToken", tokens::UPDATE),
    Row::api(
        "RevokeToken",
        &Method::POST,
        "/m2m_tokens/{m2m_token_id}/revoke",
        Any,
        |call| Box::pin(tokens::revoke(call)),
    )
    .bad_request()
    .may_take::<RevokeRequest>()
    .answers::<M2mToken>()
    .described("revokeM2MToken", tokens::REVOKE),
    Row::api("Jwks", &Method::GET, "/jwks", AnyForKeySet, |call| {
        at_once(jwks::of_caller(call))
    })
    .at_once()
    .answers::<Jwks>()
    .described("getJWKS", jwks::OF_CALLER),
    Row::api(
        "ListMachines",
        &Method::GET,
        "/machines",
        Instance,
        |call| Box::pin(machines::list(call)),
    )
    .asks::<ListMachines>()
    .answers::<List<body::Machine>>()
    .described("listMachines", machines::LIST),
    Row::api(
        "CreateMachine",
        &Method::POST,
        "/machines",
        Instance,
        |call| Box::pin(machines::create(call)),
    )
    .takes::<MachineRequest>()
    .answers::<MachineCreated>()
    .described("createMachine", machines::CREATE),
    Row::api(
        "GetMachine",
        &Method::GET,
        "/machines/{machine_id}",
        Instance,
        |call| Box::pin(machines::get(call)),
    )
    .answers::<body::Machine>()
    .described("getMachine", machines::GET),
    Row::api(
        "UpdateMachine",
        &Method::PATCH,
        "/machines/{machine_id}",
        Instance,
        |call| Box::pin(machines::update(call)),
    )
    .may_take::<MachineUpdate>()
    .answers::<body::Machine>()
    .described("updateMachine", machines::UPDATE),
    Row::api(
        "DeleteMachine",
        &Method::DELETE,
        "/machines/{machine_id}",
        Instance,
        |call| Box::pin(machines::delete(call)),
    )
    .answers::<DeletedMachine>()
    .described("deleteMachine", machines::DELETE),
    Row::api(
        "GetSecretKey",
        &Method::GET,
        "/machines/{machine_id}/secret_key",
        Instance,
        |call| Box::pin(machines::secret_key(call)),
    )
    .answers::<MachineSecretKey>()
    .described("getMachineSecretKey", machines::SECRET_KEY),
    Row::api(
        "RotateSecretKey",
        &Method::POST,
        "/machines/{machine_id}/secret_key/rotate",
        Instance,
        |call| Box::pin(machines::rotate_secret_key(call)),
    )
    .takes::<KeyRotation>()
    .answers::<MachineSecretKey>()
    .described("rotateMachineSecretKey", machines::ROTATE_SECRET_KEY),
    Row::api(
        "CreateScope",
        &Method::POST,
        "/machines/{machine_id}/scopes",
        Instance,
        |call| Box::pin(machines::create_scope(call)),
    )
    .takes::<ScopeRequest>()
    .answers::<MachineScope>()
    .described("createMachineScope", machines::CREATE_SCOPE),
    Row::api(
        "DeleteScope",
        &Method::DELETE,
        "/machines/{machine_id}/scopes/{other_machine_id}",
        Instance,
        |call| Box::pin(machines::delete_scope(call)),
    )
    .answers::<DeletedMachineScope>()
    .described("deleteMachineScope", machines::DELETE_SCOPE),
    Row::api(
        "VerifyApiKey",
        &Method::POST,
        "/api_keys/verify",
        Instance,
        |_| at_once(tokens::other_kind()),
    )
    .may_take::<ApiKeyQuestion>()
    .described("verifyAPIKey", tokens::API_KEY),
    Row::api(
        "VerifyOauthToken",
        &Method::POST,
        "/oauth_applications/access_tokens/verify",
        Instance,
        |_| at_once(tokens::other_kind()),
    )
    .may_take::<OauthTokenQuestion>()
    .described("verifyOAuthAccessToken", tokens::OAUTH_TOKEN),
    Row::public("WhoAmI", "/countersign/whoami", |call| {
        Box::pin(instances::who_am_i(call))
    })
    .versioned()
    .checks_credential()
    .at_once()
    .at_door(|call, _| Box::pin(operator::who_am_i(call)))
    .answers::<WhoAmI>()
    .described("whoAmI", instances::WHO_AM_I),
    Row::api(
        "GetInstance",
        &Method::GET,
        "/countersign/instance",
        Instance,
        |call| Box::pin(instances::get(call)),
    )
    .answers::<instance::Instance>()
    .described("getInstance", instances::GET),
    Row::api(
        "UpdateInstance",
        &Method::PATCH,
        "/countersign/instance",
        Instance,
        |call| Box::pin(instances::update(call)),
    )
    .takes::<InstanceUpdate>()
    .answers::<instance::Instance>()
    .described("updateInstance", instances::UPDATE),
    Row::api(
        "ListInstanceKeys",
        &Method::GET,
        "/countersign/instance_keys",
        Instance,
        |call| Box::pin(instances::list_keys(call)),
    )
    .answers::<List<InstanceKeyInfo>>()
    .described("listInstanceKeys", instances::LIST_KEYS),
    Row::api(
        "CreateInstanceKey",
        &Method::POST,
        "/countersign/instance_keys",
        Instance,
        |call| Box::pin(instances::create_key(call)),
    )
    .may_take::<InstanceKeyRequest>()
    .answers::<CreatedInstanceKey>()
    .described("createInstanceKey", instances::CREATE_KEY),
    Row::api(
        "RevokeInstanceKey",
        &Method::DELETE,
        "/countersign/instance_keys/{key_id}",
        Instance,
        |call| Box::pin(instances::revoke_key(call)),
    )
    .answers::<DeletedInstanceKey>()
    .described("revokeInstanceKey", instances::REVOKE_KEY),
    Row::api(
        "ListSigningKeys",
        &Method::GET,
        "/countersign/signing_keys",
        Instance,
        |call| Box::pin(jwks::list_signing_keys(call)),
    )
    .answers::<List<SigningKeyInfo>>()
    .described("listSigningKeys", jwks::LIST_SIGNING_KEYS),
    Row::api(
        "RotateSigningKey",
        &Method::POST,
        "/countersign/signing_keys/rotate",
        Instance,
        |call| Box::pin(jwks::rotate_signing_key(call)),
    )
    .may_take::<SigningKeyRotation>()
    .answers::<SigningKeyInfo>()
    .described("rotateSigningKey", jwks::ROTATE_SIGNING_KEY),
    Row::api(
        "DeleteSigningKey",
        &Method::DELETE,
        "/countersign/signing_keys/{kid}",
        Instance,
        |call| Box::pin(jwks::delete_signing_key(call)),
    )
    .answers::<DeletedSigningKey>()
    .described("deleteSigningKey", jwks::DELETE_SIGNING_KEY),
    Row::api(
        "ListChanges",
        &Method::GET,
        "/countersign/changes",
        Instance,
        |call| Box::pin(changes::list(call)),
    )
    .asks::<ListChanges>()
    .answers::<ChangeList>()
    .described("listChanges", changes::LIST),
    Row::api(
        "VerifyChanges",
        &Method::GET,
        "/countersign/changes/verify",
        Instance,
        |call| Box::pin(changes::verify(call)),
    )
    .asks::<VerifyChanges>()
    .answers::<ChangeLogReport>()
    .described("verifyChanges", changes::VERIFY),
    // The next two belong to the operator. They are not part of the document. On the network they are refused with a
    // message that names the command to use.
    Row::api(
        "ListInstances",
        &Method::GET,
        "/countersign/instances",
        Instance,
        |_| at_once(operator::refuse()),
    )
    .at_door(|call, operator| Box::pin(operator::list_instances(call, operator))),
    Row::api(
        "CreateInstance",
        &Method::POST,
        "/countersign/instances",
        Instance,
        |_| at_once(operator::refuse()),
    )
    .takes::<InstanceRequest>()
    .at_door(|call, operator| Box::pin(operator::create_instance(call, operator))),
    Row::public("PublicJwks", "/.well-known/jwks.json", |call| {
        Box::pin(jwks::public(call))
    })
    .at_once()
    .answers::<Jwks>()
    .described("getPublicJWKS", jwks::PUBLIC),
    Row::public(
        "OpenidConfiguration",
        "/.well-known/openid-configuration",
        |call| Box::pin(jwks::openid_configuration(call)),
    )
    .at_once()
    .answers::<OpenidConfiguration>()
    .described("getOpenIDConfiguration", jwks::OPENID_CONFIGURATION),
    Row::public(
        "InstanceJwks",
        "/{instance_id}/.well-known/jwks.json",
        |call| Box::pin(jwks::public(call)),
    )
    .at_once()
    .answers::<Jwks>()
    .described("getInstancePublicJWKS", jwks::PUBLIC_OF_INSTANCE),
    Row::public(
        "InstanceOpenidConfiguration",
        "/{instance_id}/.well-known/openid-configuration",
        |call| Box::pin(jwks::openid_configuration(call)),
    )
    .at_once()
    .answers::<OpenidConfiguration>()
    .described(
        "getInstanceOpenIDConfiguration",
        jwks::OPENID_CONFIGURATION_OF_INSTANCE,
    ),
    Row::public("Openapi", "/openapi.json", |call| {
        at_once(docs::openapi(call))
    })
    .answers::<Description>()
    .described("getOpenAPI", docs::OPENAPI),
    Row::public("Root", "/", |_| at_once(docs::root())),
    Row::public("Swagger", "/swagger", |call| at_once(docs::swagger(call))),
    Row::public("SwaggerAsset", "/swagger/{asset}", |call| {
        at_once(docs::asset(call))
    }),
    Row::public("Healthz", "/healthz", |_| at_once(state::healthz()))
        .at_once()
        .on(Listeners::All)
        .described("healthz", state::HEALTHZ),
    Row::public("Readyz", "/readyz", |call| Box::pin(state::readyz(call)))
        .on(Listeners::All)
        .described("readyz", state::READYZ),
    Row::public("Metrics", "/metrics", |call| at_once(state::metrics(call)))
        .at_once()
        .on(Listeners::Metrics),
];

/// The answer of a handler that needs no wait.
fn at_once<'a>(answer: Result<Answer, ApiError>) -> Handling<'a> {
    Box::pin(std::future::ready(answer))
}

/// What the router found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Operation(&'static Row, Captures<'a>),
    /// The path exists; these are its methods.
    WrongMethod(Vec<&'static str>),
    Nothing,
}

/// Finds the operation of a request.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let unversioned = path
        .strip_prefix("/v1")
        .filter(|rest| rest.starts_with('/'));
    // HEAD is answered like GET, without the body.
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut methods = Vec::new();
    // A path without captures is taken as it stands: `verify` and `rotate` are no ids. Those rows come first, as a test shows.
    let mut is_fixed = false;
    for row in ROWS {
        let path = match (row.prefix, unversioned) {
            (Prefix::Optional, Some(rest)) => rest,
            (Prefix::None, _) | (Prefix::Optional, None) => path,
        };
        let Some(captures) = matches(row.path, path) else {
            continue;
        };
        if is_fixed && row.path.contains('{') {
            continue;
        }
        if row.method == method {
            return Found::Operation(row, captures);
        }
        is_fixed |= !row.path.contains('{');
        methods.push(row.method.as_str());
        if *row.method == Method::GET {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() {
        Found::Nothing
    } else {
        Found::WrongMethod(methods)
    }
}

fn matches<'a>(pattern: &str, path: &'a str) -> Option<Captures<'a>> {
    let mut captures = [""; 2];
    // The most frequent rows have no captures, and most others differ in their first letters; this spares them the walk.
    let Some(fixed) = pattern.bytes().position(|byte| byte == b'{') else {
        return (path == pattern).then_some(captures);
    };
    if path.get(..fixed) != pattern.get(..fixed) {
        return None;
    }
    let mut free = captures.iter_mut();
    let mut segments = path.get(fixed..)?.split('/');
    for wanted in pattern.get(fixed..)?.split('/') {
        let segment = segments.next()?;
        if wanted.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            *free.next()? = segment;
        } else if wanted != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(captures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: &Method, path: &str) -> Option<&'static str> {
        match find(method, path) {
            Found::Operation(row, _) => Some(row.name),
            Found::WrongMethod(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn contract_paths_are_found_with_and_without_v1() {
        for prefix in ["", "/v1"] {
            let find = |method, path: &str| operation(method, &format!("{prefix}{path}"));
            assert_eq!(
                find(&Method::POST, "/m2m_tokens/verify"),
                Some("VerifyToken")
            );
            assert_eq!(
                find(&Method::POST, "/m2m_tokens/mt_1/revoke"),
                Some("RevokeToken")
            );
            assert_eq!(
                find(&Method::PATCH, "/m2m_tokens/mt_1"),
                Some("UpdateToken")
            );
            assert_eq!(
                find(&Method::DELETE, "/machines/a/scopes/b"),
                Some("DeleteScope")
            );
            assert_eq!(find(&Method::HEAD, "/machines"), Some("ListMachines"));
        }
        assert_eq!(
            operation(&Method::GET, "/.well-known/jwks.json"),
            Some("PublicJwks")
        );
        assert_eq!(
            operation(&Method::GET, "/ins_1/.well-known/jwks.json"),
            Some("InstanceJwks")
        );
    }

    #[test]
    fn what_is_no_path_is_not_found() {
        for path in [
            "/v1",
            "/v1/",
            "/v1/v1/machines",
            "/machines/",
            "/machines//scopes",
            "/v2/machines",
            "/machinesx",
            "//machines",
        ] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_lists_the_right_ones() {
        let Found::WrongMethod(methods) = find(&Method::PUT, "/v1/machines/x") else {
            panic!("the path exists")
        };
        assert_eq!(methods, ["GET", "HEAD", "PATCH", "DELETE"]);
    }

    #[test]
    fn a_fixed_path_is_never_taken_for_an_id() {
        for (place, row) in ROWS
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.path.contains('{'))
        {
            let earlier = ROWS.iter().take(place).find(|earlier| {
                matches(earlier.path, row.path).is_some_and(|_| earlier.path != row.path)
            });
            assert!(
                earlier.is_none(),
                "{} comes after {:?}",
                row.path,
                earlier.map(|row| row.path)
            );
        }
        let Found::WrongMethod(methods) = find(&Method::PATCH, "/m2m_tokens/verify") else {
            panic!("taken for an id")
        };
        assert_eq!(methods, ["POST"]);
        let Found::WrongMethod(methods) =
            find(&Method::DELETE, "/v1/countersign/signing_keys/rotate")
        else {
            panic!("taken for an id")
        };
        assert_eq!(methods, ["POST"]);
    }

    #[test]
    fn captures_are_in_order() {
        let Found::Operation(_, captures) = find(&Method::DELETE, "/machines/a/scopes/b") else {
            panic!("the path exists")
        };
        assert_eq!(captures, ["a", "b"]);
    }
}
