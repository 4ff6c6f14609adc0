"""Personas: who a person is, where they talk, and how; conditions on the ordinary simulation.

`schema` and `prose` hold a person, `tables` and `factory` make many, `vocabulary` and `scenes` say
where they are; `roleplay` and `cast` bring them into the simulation; `script`, `acts`, `interact`
let several speak and think; `script_rows` and `splitting` serve training, `compliance` measures.
"""
