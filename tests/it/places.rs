//! Where runs are kept in tests in which a process ends and the next goes on.

use std::path::Path;

use perennial::Store;

/// Where runs are kept that outlive a process.
pub(crate) enum Place<'a> {
    File(&'a Path),
    #[cfg(feature = "postgres")]
    Server(perennial_testkit::postgres::Database),
}

impl Place<'_> {
    pub(crate) fn store(&self) -> Store {
        match self {
            Place::File(dir) => Store::sqlite(dir.join("runs.db")),
            #[cfg(feature = "postgres")]
            Place::Server(database) => Store::postgres(&database.url()).unwrap(),
        }
    }
}

/// A file, and a server where there is one.
pub(crate) fn places<'a>(dir: &'a Path, _name: &str) -> Vec<Place<'a>> {
    let places = vec![Place::File(dir)];
    #[cfg(feature = "postgres")]
    let places = {
        let cluster = perennial_testkit::postgres::cluster();
        let server = cluster.map(|it| Place::Server(it.database(_name).unwrap()));
        places.into_iter().chain(server).collect()
    };
    places
}
