//! Where runs are kept.

use std::ffi::OsStr;

use clap::{
    Arg, Command,
    builder::{StringValueParser, TypedValueParser},
    error::ErrorKind,
};
use perennial::{Config, Store};

/// The variable that names the store.
const VARIABLE: &str = "PERENNIAL_STORE";
/// Where runs are kept when nobody says it.
pub(crate) const STORE_DEFAULT: &str = "perennial.db";

/// Where runs are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// Where runs are kept: a file, as PATH or sqlite:PATH, or postgres://USER:PASSWORD@HOST/DATABASE, which
    /// several machines may share [default: sqlite:perennial.db]
    #[arg(long = "store", value_name = "URL", env = VARIABLE, hide_env_values = true,
        value_parser = store_value())]
    given: Option<Store>,
    /// What counts of all that was said.
    #[arg(skip = Store::sqlite(STORE_DEFAULT))]
    pub(crate) store: Store,
}

impl StoreArgs {
    /// Flag and environment are stronger than the configuration.
    pub(crate) fn settle(&mut self, config: &Config) {
        self.store = self.settled(config);
    }

    /// The store that counts, opened as the configuration says.
    pub(crate) fn settled(&self, config: &Config) -> Store {
        let told = self.given.as_ref().or(config.store()).unwrap_or(&self.store);
        told.clone().settings(config.store_settings())
    }
}

/// Whether the environment names this store, so that commands need not.
pub(crate) fn is_of_environment(store: &Store) -> bool {
    let named = std::env::var(VARIABLE).ok();
    let named = named.and_then(|url| url.parse::<Store>().ok());
    named.is_some_and(|named| named.to_string() == store.to_string())
}

/// Reads a store without repeating what was typed, which may hold a password.
pub(crate) fn store_value() -> impl TypedValueParser<Value = Store> {
    StoreParser
}

#[derive(Clone)]
struct StoreParser;

impl TypedValueParser for StoreParser {
    type Value = Store;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Store, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, arg, value)?;
        text.parse::<Store>().map_err(|error| {
            let text = format!("invalid value for --store: {error}\n");
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}
