//! The table of operations: method, path, who may call, how errors are worded. The router, the metrics' labels, `Allow` and
//! the OpenAPI document all come from it.

use countersign_authority::Accepts;
use http::Method;

use crate::pace::Pace;
use crate::reply::Habit;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    VerifyToken,
    CreateToken,
    ListTokens,
    UpdateToken,
    RevokeToken,
    ListMachines,
    CreateMachine,
    GetMachine,
    UpdateMachine,
    DeleteMachine,
    GetSecretKey,
    RotateSecretKey,
    CreateScope,
    DeleteScope,
    Jwks,
    PublicJwks,
    InstanceJwks,
    OpenidConfiguration,
    InstanceOpenidConfiguration,
    VerifyApiKey,
    VerifyOauthToken,
    WhoAmI,
    GetInstance,
    UpdateInstance,
    ListInstanceKeys,
    CreateInstanceKey,
    RevokeInstanceKey,
    ListSigningKeys,
    RotateSigningKey,
    DeleteSigningKey,
    ListChanges,
    Openapi,
    Swagger,
    SwaggerAsset,
    Healthz,
    Readyz,
    Metrics,
}

impl Operation {
    fn name(self) -> &'static str {
        Box::leak(format!("{self:?}").into_boxed_str())
    }

    /// Whether its handler checks the credential, because that is one with the rest of what it does.
    pub(crate) fn checks_credential(self) -> bool {
        matches!(self, Self::VerifyToken | Self::WhoAmI)
    }

    /// Whether it is answered from memory or by a point read, so that it need not queue behind those that wait.
    pub(crate) fn never_waits(self) -> bool {
        matches!(
            self,
            Self::VerifyToken
                | Self::WhoAmI
                | Self::Jwks
                | Self::PublicJwks
                | Self::InstanceJwks
                | Self::OpenidConfiguration
                | Self::InstanceOpenidConfiguration
                | Self::Healthz
                | Self::Metrics
        )
    }
}

/// Under which prefix an operation's path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// With and without `/v1`.
    Optional,
    /// As it is.
    None,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) operation: Operation,
    pub(crate) method: &'static Method,
    /// `{…}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) prefix: Prefix,
    /// `None` for public operations.
    pub(crate) accepts: Option<Accepts>,
    pub(crate) habit: Habit,
}

impl Row {
    pub(crate) fn name(&self) -> &'static str {
        self.operation.name()
    }

    pub(crate) fn checks_credential(&self) -> bool {
        self.operation.checks_credential()
    }

    pub(crate) fn pace(&self) -> Pace {
        if self.operation.never_waits() {
            Pace::AtOnce
        } else {
            Pace::Queued
        }
    }
}

const fn row(
    operation: Operation,
    method: &'static Method,
    path: &'static str,
    accepts: Option<Accepts>,
    habit: Habit,
) -> Row {
    Row {
        operation,
        method,
        path,
        prefix: Prefix::Optional,
        accepts,
        habit,
    }
}

const fn public(operation: Operation, path: &'static str) -> Row {
    Row {
        operation,
        method: &Method::GET,
        path,
        prefix: Prefix::None,
        accepts: None,
        habit: Habit::Parameters,
    }
}

use Accepts::{Any, AnyForKeySet, Instance, Machine};
use Habit::{BadRequest, Parameters};
use Operation as Op;

/// The operations; the most frequent first, because the router goes from top to bottom.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row(Op::VerifyToken,       &Method::POST,   "/m2m_tokens/verify",                          Some(Any),      BadRequest),
    row(Op::CreateToken,       &Method::POST,   "/m2m_tokens",                                 Some(Machine),  BadRequest),
    row(Op::ListTokens,        &Method::GET,    "/m2m_tokens",                                 Some(Any),      BadRequest),
    row(Op::UpdateToken,       &Method::PATCH,  "/m2m_tokens/{m2m_token_id}",                  Some(Any),      BadRequest),
    row(Op::RevokeToken,       &Method::POST,   "/m2m_tokens/{m2m_token_id}/revoke",           Some(Any),      BadRequest),
    row(Op::Jwks,              &Method::GET,    "/jwks",                                       Some(AnyForKeySet), Parameters),
    row(Op::ListMachines,      &Method::GET,    "/machines",                                   Some(Instance), Parameters),
    row(Op::CreateMachine,     &Method::POST,   "/machines",                                   Some(Instance), Parameters),
    row(Op::GetMachine,        &Method::GET,    "/machines/{machine_id}",                      Some(Instance), Parameters),
    row(Op::UpdateMachine,     &Method::PATCH,  "/machines/{machine_id}",                      Some(Instance), Parameters),
    row(Op::DeleteMachine,     &Method::DELETE, "/machines/{machine_id}",                      Some(Instance), Parameters),
    row(Op::GetSecretKey,      &Method::GET,    "/machines/{machine_id}/secret_key",           Some(Instance), Parameters),
    row(Op::RotateSecretKey,   &Method::POST,   "/machines/{machine_id}/secret_key/rotate",    Some(Instance), Parameters),
    row(Op::CreateScope,       &Method::POST,   "/machines/{machine_id}/scopes",               Some(Instance), Parameters),
    row(Op::DeleteScope,       &Method::DELETE, "/machines/{machine_id}/scopes/{other_machine_id}", Some(Instance), Parameters),
    row(Op::VerifyApiKey,      &Method::POST,   "/api_keys/verify",                            Some(Instance), Parameters),
    row(Op::VerifyOauthToken,  &Method::POST,   "/oauth_applications/access_tokens/verify",    Some(Instance), Parameters),
    row(Op::WhoAmI,            &Method::GET,    "/countersign/whoami",                         None,           Parameters),
    row(Op::GetInstance,       &Method::GET,    "/countersign/instance",                       Some(Instance), Parameters),
    row(Op::UpdateInstance,    &Method::PATCH,  "/countersign/instance",                       Some(Instance), Parameters),
    row(Op::ListInstanceKeys,  &Method::GET,    "/countersign/instance_keys",                  Some(Instance), Parameters),
    row(Op::CreateInstanceKey, &Method::POST,   "/countersign/instance_keys",                  Some(Instance), Parameters),
    row(Op::RevokeInstanceKey, &Method::DELETE, "/countersign/instance_keys/{key_id}",         Some(Instance), Parameters),
    row(Op::ListSigningKeys,   &Method::GET,    "/countersign/signing_keys",                   Some(Instance), Parameters),
    row(Op::RotateSigningKey,  &Method::POST,   "/countersign/signing_keys/rotate",            Some(Instance), Parameters),
    row(Op::DeleteSigningKey,  &Method::DELETE, "/countersign/signing_keys/{kid}",             Some(Instance), Parameters),
    row(Op::ListChanges,       &Method::GET,    "/countersign/changes",                        Some(Instance), Parameters),
    public(Op::PublicJwks,                      "/.well-known/jwks.json"),
    public(Op::OpenidConfiguration,             "/.well-known/openid-configuration"),
    public(Op::InstanceJwks,                    "/{instance_id}/.well-known/jwks.json"),
    public(Op::InstanceOpenidConfiguration,     "/{instance_id}/.well-known/openid-configuration"),
    public(Op::Openapi,                         "/openapi.json"),
    public(Op::Swagger,                         "/swagger"),
    public(Op::SwaggerAsset,                    "/swagger/{asset}"),
    public(Op::Healthz,                         "/healthz"),
    public(Op::Readyz,                          "/readyz"),
    public(Op::Metrics,                         "/metrics"),
];

/// The segments of a path that stand for `{…}`, in order.
pub(crate) type Captures<'a> = [&'a str; 2];

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

    fn operation(method: &Method, path: &str) -> Option<Operation> {
        match find(method, path) {
            Found::Operation(row, _) => Some(row.operation),
            Found::WrongMethod(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn contract_paths_are_found_with_and_without_v1() {
        for prefix in ["", "/v1"] {
            let find = |method, path: &str| operation(method, &format!("{prefix}{path}"));
            assert_eq!(
                find(&Method::POST, "/m2m_tokens/verify"),
                Some(Operation::VerifyToken)
            );
            assert_eq!(
                find(&Method::POST, "/m2m_tokens/mt_1/revoke"),
                Some(Operation::RevokeToken)
            );
            assert_eq!(
                find(&Method::PATCH, "/m2m_tokens/mt_1"),
                Some(Operation::UpdateToken)
            );
            assert_eq!(
                find(&Method::DELETE, "/machines/a/scopes/b"),
                Some(Operation::DeleteScope)
            );
            assert_eq!(
                find(&Method::HEAD, "/machines"),
                Some(Operation::ListMachines)
            );
        }
        assert_eq!(
            operation(&Method::GET, "/.well-known/jwks.json"),
            Some(Operation::PublicJwks)
        );
        assert_eq!(
            operation(&Method::GET, "/ins_1/.well-known/jwks.json"),
            Some(Operation::InstanceJwks)
        );
    }

    #[test]
    fn what_is_no_path_is_not_found() {
        for path in [
            "/",
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
