//! Text of kube-proxy's configuration file: whatever it is, it is read or refused; what is read can
//! be written, and reads back as the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portolan_config::{Flags, Place, load, write};

fuzz_target!(|text: &str| {
    let flags = Flags::default();
    match load(&flags, Some((Path::new("c"), text))) {
        Ok(loaded) => {
            let written = write(&loaded.config);
            match load(&flags, Some((Path::new("written"), &written))) {
                Ok(again) => assert_eq!(again.config, loaded.config, "{written}"),
                Err(errors) => panic!("{errors:?} in what was written:\n{written}"),
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(matches!(error.place, Place::File { .. }), "{error} says where");
                assert!(!error.message.is_empty());
            }
        }
    }
});
