"""The ways to ask in Portuguese, by kind of query: choices in brackets, slots in braces.

A macro in angle brackets stands for choices that many patterns share. The slots are filled by
``questions_pt``.
"""

MACROS = {
    "<ask>": "[[Mostre|Liste|Exiba|Apresente|Traga|Informe|Diga|Busque|Consulte|Recupere|Selecione]"
    "|[Me mostre|Me mostra|Me diga|Me passa|Me traz|Me informe]"
    "|[Quero ver|Quero saber|Quero|Queria ver|Gostaria de ver|Gostaria de saber|Preciso ver"
    "|Preciso saber|Preciso conhecer]"
    "|[Pode mostrar|Pode me dizer|Você pode listar|Você consegue me mostrar|Dá pra listar"
    "|Dá para mostrar|Seria possível listar|Poderia informar]]",
    "<then>": "[mostre|liste|exiba|informe|diga|me mostre|me diga|quero ver|quero saber|traga]",
    "<exist>": "[existem|há|temos|constam|aparecem|tem]",
    "<whole>": "[|||| no total| ao todo| na base| na tabela| no banco de dados| no sistema]",
}

_FILTERS = (
    "<ask> {os_cols} {dos} {t}{cond}",
    "<ask> {o_cols} {dos} {t}{cond}",
    "<ask> {o_cols} de [cada|qualquer|todo e qualquer] {um}{cond_one}",
    "[Quais são|Quais seriam|E quais são] {os_cols} {dos} {t}{cond}",
    "[Qual é|Qual|Qual seria|E qual é] {o_cols} {dos} {t}{cond}",
    "{Dos} {t}{cond}, <then> {o_cols}",
    "[Para|Considerando|Entre|Sobre] {os} {t}{cond}, <then> {os_cols}",
    "[Encontre|Ache|Procure|Busque|Localize|Filtre] {os} {t}{cond} e <then> {o_cols}",
    "{os_cols} {dos} {t}{cond}",
    "Que {um} [existe|há|temos]{cond_one}? [Mostre|Diga|Liste|Quero] {o_cols}",
    "[Tem|Há|Existe] {algum} {um}{cond_one}? <ask> {o_cols}",
)
_COUNTS = (
    "{Quantos} {t} <exist>{cond}",
    "{Quantos} são {os} {t}{cond}",
    "Qual é [o total|o número|a quantidade|a contagem|o número total] de {t}{cond}",
    "<ask> [o total|o número|a quantidade|a contagem] de {t}{cond}",
    "<ask> {quantos} {t} <exist>{cond}",
    "[Conte|Conta|Contabilize] {os} {t}{cond}",
    "[Número|Quantidade|Total] de {t}{cond}",
)
_AGGREGATES = (
    "[Qual é|Qual|Qual foi|Qual seria|E qual é] {medida} {dos} {t}{cond}",
    "<ask> {medida} {dos} {t}{cond}",
    "[Calcule|Calcula|Obtenha|Descubra|Encontre] {medida} {dos} {t}{cond}",
    "[Entre|Considerando|Para|Contando só] {os} {t}{cond}, [qual é|calcule|informe|quero] {medida}",
    "{medida} {dos} {t}{cond}",
    "Quanto [é|dá|vale] {medida} {dos} {t}{cond}",
)
_GROUP_COUNTS = (
    "{Quantos} {t} <exist> [por|em cada|para cada|de cada] {g}",
    "<ask> [o número|a quantidade|o total|a contagem] de {t} [por|de cada|para cada] {g}",
    "[Conte|Conta] {os} {t} [por|de cada|para cada] {g}",
    "[Para cada|Em cada|Por] {g}, {quantos} {t} <exist>",
    "[Para cada|Por] {g}, <then> [o número|a quantidade|o total] de {t}",
    "Qual é [a quantidade|o número|o total] de {t} [por|em cada|para cada] {g}",
    "[Quantidade|Número|Total|Contagem] de {t} por {g}",
    "<ask> cada {g} e {quantos} {t} <exist>",
)

PATTERNS = {
    "list_columns": (
        "<ask> {os_cols} [{dos} {t}|de {todos} {os} {t}]",
        "<ask> {o_cols} [de cada {um}|{dos} {t}|de {todos} {os} {t}]",
        "[Quais são|Quais seriam|E quais são] {os_cols} {dos} {t}",
        "Qual é {o_cols} de cada {um}",
        "De {todos} {os} {t}, <then> {o_cols}",
        "[Para|De] cada {um}, <then> {o_cols}",
        "{os_cols} de {todos} {os} {t}",
        "Faça uma lista com {o_cols} {dos} {t}",
    ),
    "list_all": (
        "<ask> [todos os dados|todas as informações|todas as colunas|o cadastro completo] "
        "{dos} {t}",
        "<ask> tudo [sobre {os} {t}|o que há sobre {os} {t}|da tabela de {t}]",
        "<ask> a tabela [completa|inteira] de {t}",
        "<ask> {todos} {os} {t} com todos os [campos|dados]",
        "Quais são [todos os dados|todas as informações] {dos} {t}",
        "O que [temos|há|existe] [cadastrado|registrado|guardado] sobre {os} {t}",
    ),
    "count_all": tuple(pattern.replace("{cond}", "<whole>") for pattern in _COUNTS),
    "count_where": _COUNTS,
    "join_count": _COUNTS,
    "aggregate": tuple(pattern.replace("{cond}", "") for pattern in _AGGREGATES),
    "aggregate_where": _AGGREGATES,
    "join_aggregate": _AGGREGATES,
    "distinct": (
        "<ask> {os_cs} [diferentes|distint{x}] {dos} {t}",
        "Quais [são {os_cs}|{cs}] [diferentes|distint{x}] {dos} {t}",
        "<ask> {os_cs} {dos} {t}[ sem repetir|, sem repetição| sem repetições|, sem duplicar]",
        "Quais {cs} [diferentes|distint{x}] <exist> [entre {os} {t}|{nos} {t}|para {os} {t}]",
        "<ask> cada {c} que [aparece|existe|ocorre] [entre {os} {t}|{nos} {t}], uma vez só",
        "[Que|Quais] {cs} [aparecem|existem|ocorrem] entre {os} {t}[, sem repetir|]",
    ),
    "count_distinct": (
        "{Quantos_c} {cs} [diferentes|distint{x}] <exist> [entre {os} {t}|{nos} {t}]",
        "<ask> {quantos_c} {cs} [diferentes|distint{x}] <exist> [entre {os} {t}|{nos} {t}]",
        "Qual é [o número|a quantidade|o total] de {cs} [diferentes|distint{x}] {dos} {t}",
        "<ask> [o número|a quantidade] de {cs} [diferentes|distint{x}] {dos} {t}",
        "[Conte|Conta] {os_cs} [diferentes|distint{x}] {dos} {t}",
        "Sem repetir, {quantos_c} {cs} {os} {t} têm",
    ),
    "ordered": (
        "<ask> {os_cols} {dos} {t} {ordem}",
        "<ask> {o_cols} de {todos} {os} {t} {ordem}",
        "Quais são {os_cols} {dos} {t} {ordem}",
        "{ordem}, <then> {os_cols} {dos} {t}",
        "[Ordene|Organize|Classifique] {os} {t} {ordem} e <then> {o_cols}",
        "{os_cols} {dos} {t}, {ordem}",
    ),
    "extreme": (
        "Qual é {o_cols} {do} {um} [com|de|que tem] {o_maior} {k}",
        "<ask> {o_cols} {do} {um} [com|de|que tem|que possui] {o_maior} {k}",
        "Qual {um} [tem|possui|apresenta] {o_maior} {k}? <ask> {o_cols}",
        "Entre {os} {t}, qual tem {o_maior} {k}? [Diga|Mostre|Quero|Informe] {o_cols}",
        "{o_cols} {do} {um} com {o_maior} {k}",
        "[Ache|Encontre|Procure] {o} {um} [com|de] {o_maior} {k} e <then> {o_cols}",
        "{Do} {um} com {k} mais {alto}, <then> {o_cols}",
    ),
    "top": (
        "<ask> {os_cols} {dos} {n} {t} [com|de|que têm] {maior} {k}",
        "Quais são {os_cols} {dos} {n} {t} [com|de|que têm] {maior} {k}",
        "<ask> {o_cols} {dos} {n} {t} com {os_maiores} {ks}",
        "Quais são {os} {n} {t} [com|de] {maior} {k}? <ask> {o_cols}",
        "{Os} {n} {t} com {os_maiores} {ks}: <then> {o_cols}",
        "{Dos} {n} {t} [de|com] {maior} {k}, <then> {o_cols}",
        "Entre {os} {t}, pegue {os} {n} de {maior} {k} e <then> {o_cols}",
    ),
    "group_count": _GROUP_COUNTS,
    "join_group": _GROUP_COUNTS,
    "group_aggregate": (
        "[Qual é|Qual|Qual seria] {medida} {dos} {t} [por|em cada|para cada|de cada] {g}",
        "<ask> {medida} {dos} {t} [por|em cada|para cada|de cada] {g}",
        "[Para cada|Em cada|Por] {g}, [qual é|calcule|informe|mostre|quero] {medida} {dos} {t}",
        "[Calcule|Calcula|Obtenha] {medida} {dos} {t} [por|para cada|agrupando por] {g}",
        "{medida} {dos} {t} por {g}",
        "[Agrupe|Separe] {os} {t} por {g} e [calcule|mostre|informe] {medida}",
    ),
    "most_common": (
        "Qual {g} [tem mais|possui mais|reúne mais|concentra mais|conta com mais] {t}",
        "Qual é {o_g} [com mais|com o maior número de|com a maior quantidade de] {t}",
        "<ask> {o_g} [com mais|que tem mais|com o maior número de] {t}",
        "Qual {g} [aparece mais|mais aparece|é mais comum|mais se repete] entre {os} {t}",
        "<ask> {o_g} mais [comum|frequente] [entre {os} {t}|{nos} {t}|{dos} {t}]",
        "Qual é {o_g} mais [comum|frequente] [entre {os} {t}|{nos} {t}|{dos} {t}]",
    ),
    "having_count": (
        "Quais {gs} [têm|possuem|reúnem|contam com] mais de {limiar} {t}",
        "<ask> {os_gs} [com|que têm|que reúnem] mais de {limiar} {t}",
        "Quais são {os_gs} [com|que possuem] mais de {limiar} {t}",
        "<ask> {os_gs} que [aparecem|se repetem|ocorrem] em mais de {limiar} {t}",
        "Em quais {gs} [há|existem|temos] mais de {limiar} {t}",
        "{os_gs} com mais de {limiar} {t}",
    ),
    "having_average": (
        "Quais {gs} [têm|possuem|apresentam] {media} {acima} {limiar} "
        "[entre|considerando] {os} {t}",
        "<ask> {os_gs} {dos} {t} [com|que têm] {media} {acima} {limiar}",
        "Quais são {os_gs} {dos} {t} com {media} {acima} {limiar}",
        "[Entre|Considerando] {os} {t}, [quais|que] {gs} têm {media} {acima} {limiar}",
        "Em quais {gs} {os} {t} têm {media} {acima} {limiar}",
        "<ask> {os_gs} em que {os} {t} têm {media} {acima} {limiar}",
    ),
    "above_average": (
        "<ask> {os_c} {dos} {t} [com|que têm|de] {k} [acima da|maior que a|superior à] média",
        "Quais são {os_c} {dos} {t} [com|que têm|de] {k} [acima da|maior que a|superior à] média",
        "<ask> {o_c} {dos} {t} cuj{o_k} {k} [passa da|supera a|ultrapassa a|fica acima da] média",
        "Quais {t} têm {k} [acima da|superior à|maior que a] média? <ask> {o_c}",
        "{Dos} {t} com {k} [acima da|maior que a] média, <then> {o_c}",
        "Que {t} [passam da|superam a|ultrapassam a] média de {k}? <ask> {o_c}",
    ),
    "join_list": (
        "<ask> {o_cols} {dos} {t} [e|junto com|com|e também|mais|ao lado de] {o_b} {do_p}",
        "<ask> {o_cols} de cada {um} [e|junto com|com|e também] {o_b} {do_p}",
        "[Para|De] cada {um}, <then> {o_cols} [e|e também|junto com|mais] {o_b} {do_p}",
        "[Qual é|Qual] {o_cols} de cada {um} e {o_b} {do_p}",
        "Quais são {os_cols} {dos} {t} e {os_bs} {dos_ps} [correspondentes|]",
        "De {todos} {os} {t}, <then> {o_cols} e {o_b} {do_p}",
    ),
}
for _kind in [
    "filter_equal",
    "filter_compare",
    "filter_and",
    "filter_or",
    "filter_between",
    "filter_not_equal",
    "filter_starts",
    "join_filter",
]:
    PATTERNS[_kind] = _FILTERS
