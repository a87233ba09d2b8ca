//! Which siblings the exit of one child touches.

/// What happens to the siblings of a child that is restarted.
///
/// ```
/// use perennial_core::Strategy;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// assert_eq!(Strategy::default(), Strategy::OneForOne);
/// assert_eq!(serde_json::to_value(Strategy::RestForOne)?, "rest_for_one"); // as dumps show it
/// # Ok(()) }
/// ```
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nothing.
    #[default]
    OneForOne,
    /// All are stopped in reverse start order, then all are started.
    OneForAll,
    /// Those started after it are stopped in reverse start order, then it and they are started.
    RestForOne,
}
