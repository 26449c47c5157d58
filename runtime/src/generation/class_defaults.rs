//! Data: the token ids that transformers 4.37.2's configuration classes give a model when config.json leaves
//! them out. Ids only; no other default of a class, and nothing that reads a file, belongs here.

/// The settings that the table holds, in the order of its columns.
pub(crate) const COLUMNS: [&str; 5] =
    ["pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_eos_token_id"];

/// The ids of a `model_type` in the order of [`COLUMNS`]; nothing for a type whose class sets none.
pub(crate) fn token_ids(model_type: &str) -> [Option<i64>; 5] {
    match model_type {
        "albert" | "nezha" => [Some(0), Some(2), Some(3), None, None],
        "align_text_model" | "bert" | "bros" | "deberta" | "deberta-v2" | "distilbert" | "dpr"
        | "electra" | "ernie" | "layoutlm" | "layoutlmv2" | "lilt" | "megatron-bert" | "mobilebert"
        | "retribert" | "roc_bert" | "roformer" | "splinter" | "squeezebert" | "tapas" => {
            [Some(0), None, None, None, None]
        }
        "bart" | "fsmt" | "mvp" => [Some(1), Some(0), Some(2), Some(2), Some(2)],
        "bert-generation" => [Some(0), Some(2), Some(1), None, None],
        "big_bird" | "data2vec-audio" | "graphormer" | "hubert" | "idefics" | "open-llama" | "sew"
        | "sew-d" | "unispeech" | "unispeech-sat" | "wav2vec2" | "wav2vec2-bert" | "wav2vec2-conformer"
        | "wavlm" => [Some(0), Some(1), Some(2), None, None],
        "bigbird_pegasus" => [Some(0), Some(2), Some(1), Some(2), None],
        "biogpt"
        | "camembert"
        | "convbert"
        | "data2vec-text"
        | "ibert"
        | "layoutlmv3"
        | "longformer"
        | "luke"
        | "mctct"
        | "mega"
        | "mpnet"
        | "mra"
        | "nystromformer"
        | "qdqbert"
        | "realm"
        | "roberta"
        | "roberta-prelayernorm"
        | "visual_bert"
        | "xlm-roberta"
        | "xlm-roberta-xl"
        | "xmod"
        | "yoso" => [Some(1), Some(0), Some(2), None, None],
        "blenderbot" | "blenderbot-small" => [Some(0), Some(1), Some(2), Some(1), Some(2)],
        "blip_text_model" => [Some(0), Some(30522), Some(2), None, None],
        "bloom" | "code_llama" | "fuyu" | "llama" | "mistral" | "mixtral" | "persimmon" | "phi" => {
            [None, Some(1), Some(2), None, None]
        }
        "canine" => [Some(0), Some(57344), Some(57345), None, None],
        "clip_text_model" => [Some(1), Some(49406), Some(49407), None, None],
        "codegen" | "decision_transformer" | "gpt-sw3" | "gpt2" | "gpt_bigcode" | "gpt_neo" | "gptj" => {
            [None, Some(50256), Some(50256), None, None]
        }
        "ernie_m" => [Some(1), None, None, None, None],
        "falcon" => [None, Some(11), Some(11), None, None],
        "flaubert" | "xlm" => [Some(2), Some(0), None, None, None],
        "fnet" => [Some(3), Some(1), Some(2), None, None],
        "git" => [Some(0), Some(101), Some(102), None, None],
        "gpt_neox" => [None, Some(0), Some(2), None, None],
        "gpt_neox_japanese" => [None, Some(31996), Some(31999), None, None],
        "gptsan-japanese" => [Some(35995), None, Some(35999), None, None],
        "led" | "m2m_100" | "nllb-moe" | "speech_to_text" | "speech_to_text_2" | "speecht5" | "trocr"
        | "xglm" => [Some(1), Some(0), Some(2), Some(2), None],
        "longt5" | "pop2piano" | "switch_transformers" | "t5" => [Some(0), None, Some(1), None, None],
        "marian" => [Some(58100), None, Some(0), Some(58100), Some(0)],
        "markuplm" => [Some(0), Some(0), Some(2), None, None],
        "mbart" | "plbart" => [Some(1), Some(0), Some(2), None, Some(2)],
        "mt5" | "pix2struct" | "pix2struct_text_model" | "umt5" => [Some(0), None, Some(1), Some(0), None],
        "opt" => [Some(1), Some(2), Some(2), None, None],
        "pegasus" | "pegasus_x" => [Some(0), None, Some(1), Some(0), Some(1)],
        "prophetnet" | "xlm-prophetnet" => [Some(0), Some(1), Some(2), Some(0), None],
        "reformer" => [Some(0), None, Some(2), None, None],
        "rembert" => [Some(0), Some(312), Some(313), None, None],
        "rwkv" => [None, Some(0), Some(0), None, None],
        "seamless_m4t" | "seamless_m4t_v2" => [Some(0), Some(2), Some(3), Some(3), None],
        "trajectory_transformer" => [Some(1), Some(50256), Some(50256), None, None],
        "transfo-xl" => [None, None, Some(0), None, None],
        "whisper" => [Some(50256), Some(50256), Some(50256), Some(50257), None],
        "xlnet" => [Some(5), Some(1), Some(2), None, None],
        _ => [None; 5],
    }
}

/// The `model_type` of a model's text part where config.json does not say it.
pub(crate) fn text_part(model_type: &str) -> Option<&'static str> {
    match model_type {
        "align" => Some("align_text_model"),
        "blip" => Some("blip_text_model"),
        "clip" => Some("clip_text_model"),
        "pix2struct" => Some("pix2struct_text_model"),
        _ => None,
    }
}
