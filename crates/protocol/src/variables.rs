//! The names of the variables by which senders and receivers are set up. They are those of existing deployments.

/// The authority's address, without `/v1`.
pub const ADDRESS: &str = "CLERK_API_URL";
/// The authority's address, with `/v1`.
pub const ADDRESS_WITH_VERSION: &str = "CLERK_API_BASE_URL";
/// The key of an instance.
pub const INSTANCE_KEY: &str = "CLERK_SECRET_KEY";
/// The key of a machine; with a service behind it, that of one of several.
pub const MACHINE_KEY: &str = "CLERK_MACHINE_SECRET_KEY";
/// With a service behind it: a ready-made token of that service.
pub const TOKEN: &str = "CLERK_M2M_TOKEN";
/// With a service behind it: which machine that service is.
pub const MACHINE_ID: &str = "CLERK_M2M_MACHINE_ID";

/// The name of a service as variables end in it: upper case, and an underscore for what no name of a variable has.
#[must_use]
pub fn suffix_of(service: &str) -> String {
    let characters = service.chars().map(|character| {
        if character.is_ascii_alphanumeric() {
            character.to_ascii_uppercase()
        } else {
            '_'
        }
    });
    characters.collect()
}

/// The variable of a service.
#[must_use]
pub fn of_service(name: &str, service: &str) -> String {
    format!("{name}_{}", suffix_of(service))
}
