//! Fields that name a model are found wherever a server reads them, and nowhere in what users write.
use super::*;

/// The names beside `model`, or the problem.
fn others(json: &str, top: Top) -> Result<Vec<String>, String> {
    let read = names(json, top).unwrap().map_err(|problem| problem.to_string())?;
    for other in &read.others {
        let raw: String = serde_json::from_str(&json[other.range.clone()]).unwrap();
        assert_eq!(raw, other.name, "{json}");
    }
    Ok(read.others.into_iter().map(|other| other.name).collect())
}

#[test]
fn a_name_is_found_in_every_object_that_a_server_reads() {
    for json in [
        r#"{"model":"a","extra_body":{"model":"b"}}"#,
        r#"{"requests":[{"model":"b","content":{}}]}"#,
        r#"{"session":{"audio":{"input":{"transcription":{"model":"b"}}}}}"#,
        r#"{"parameters":{"adapter_id":"b"}}"#,
        r#"{"x":[[{"DraftModel":"b"}]]}"#,
        r#"{"tools":[{"type":"image_generation","model":"b"}]}"#,
        r#"{"deployment":"\u0062"}"#,
        r#"{"options":{"mod\u0065l_path":"b"}}"#,
        r#"{"engine":"b"}"#,
        r#"{"generateContentRequest":{"model":"b","contents":[{"model":"c"}]}}"#,
    ] {
        assert_eq!(others(json, Top::Names), Ok(vec!["b".to_owned()]), "{json}");
    }
    assert_eq!(others(r#"{"model":"a","name":"b"}"#, Top::NamesTwice), Ok(vec!["b".to_owned()]));
    for json in [
        r#"{"models":["b"]}"#,
        r#"{"lora":[{"id":1,"scale":1}]}"#,
        r#"{"lora":7}"#,
        r#"{"parameters":{"merged_adapters":{"ids":["b"]}}}"#,
        r#"{"fallbacks":[{"a":["b"]}]}"#,
        r#"{"model":"a","model":"a"}"#,
        r#"{"model":"a","Model":"a"}"#,
        r#"{"model":"a","mode\u200bl":"a"}"#,
        r#"{"parameters":"{\"adapter_id\":\"b\"}"}"#,
        r#"{"extra_body":"{'model':'b'}"}"#,
    ] {
        assert!(others(json, Top::Names).is_err(), "{json}");
    }
}

#[test]
fn what_users_write_names_no_model() {
    for json in [
        r#"{"messages":[{"role":"user","model":"b","content":[{"model":"b"}]}]}"#,
        r#"{"tools":[{"type":"function","function":{"parameters":{"properties":{"model":{}}}}}]}"#,
        r#"{"tools":[{"name":"x","input_schema":{"properties":{"model":{"type":"string"}}}}]}"#,
        r#"{"tools":[{"type":"function","name":"x","parameters":{"properties":{"engine":{}}}}]}"#,
        r#"{"tools":[{"functionDeclarations":[{"parameters":{"properties":{"model":{}}}}]}]}"#,
        r#"{"toolConfig":{"tools":[{"toolSpec":{"inputSchema":{"json":{"model":{}}}}}]}}"#,
        r#"{"metadata":{"model":"b"},"response_format":{"json_schema":{"schema":{"model":{}}}}}"#,
        r#"{"text":{"format":{"schema":{"properties":{"model":{"type":"string"}}}}}}"#,
        r#"{"input":[{"model":"b"}],"inputs":{"model":["b"]},"instances":[{"engine":"V8"}]}"#,
        r#"{"dataframe_split":{"columns":["model"]},"documents":[{"data":{"model":"b"}}]}"#,
        r#"{"additionalModelRequestFields":{"top_k":1},"model_kwargs":{},"stop":["model"]}"#,
        r#"{"additionalModelResponseFieldPaths":["/stop"],"logit_bias":{"model":1}}"#,
        r#"{"models":[],"lora":null,"adapter_id":"","deployment":false,"engine":{}}"#,
        r#"{"parameters":"","options":"high","config":"{\"a\":1}","name":"b"}"#,
        r#"{"guided_json":{"model":"b"},"extra_body":{"guided_json":{"model":"b"}}}"#,
    ] {
        assert_eq!(others(json, Top::Names), Ok(Vec::new()), "{json}");
    }
}

#[test]
fn tensors_name_no_model_but_adapters() {
    let read = |json| others(json, Top::Tensors);
    for json in [
        r#"{"inputs":[{"name":"model","datatype":"BYTES","data":["Golf"]}],"id":"model"}"#,
        r#"{"instances":[{"model":"Golf"}],"inputs":{"model":["Golf"]}}"#,
        r#"{"inputs":[{"name":"sampling_parameters","data":["{\"temperature\":0}"]}]}"#,
        r#"{"inputs":[{"name":"x","parameters":{"binary_data_size":4}}]}"#,
        r#"{"inputs":[1,[2]],"parameters":{"model_version":"1"}}"#,
    ] {
        assert_eq!(read(json), Ok(Vec::new()), "{json}");
    }
    let named = r#"{"text_input":"x","parameters":{"lora_name":"b"}}"#;
    assert_eq!(read(named), Ok(vec!["b".to_owned()]));
    for json in [
        r#"{"inputs":[{"name":"lora_task_id","datatype":"UINT64","data":[7]}]}"#,
        r#"{"inputs":[{"data":["{\"lora_name\":\"b\"}"],"name":"sampling_parameters"}]}"#,
        r#"{"inputs":[{"name":"x","parameters":{"adapter_id":"b"}}]}"#,
        r#"{"text_input":"x","sampling_parameters":"{\"lora_name\":\"b\"}"}"#,
    ] {
        assert!(read(json).is_err(), "{json}");
    }
}

#[test]
fn the_resource_names_of_google_stay_so() {
    let read = names(r#"{"requests":[{"model":"models/a"}]}"#, Top::Names).unwrap().unwrap();
    let [other] = &read.others[..] else { panic!("{read:?}") };
    assert_eq!((other.bare(), &*other.edit("c").new), ("a", "\"models/c\""));
}
