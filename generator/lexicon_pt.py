"""The Portuguese words, in two halves that share hardly a word: one to train on, one to test on."""

from itertools import product

from generator.words import Lexicon, parse_attributes, parse_entities


def _people(first: str, last: str) -> tuple[str, ...]:
    return tuple(f"{a} {b}" for a, b in product(first.split(), last.split()))


def _pairs(heads: str, tails: str) -> tuple[str, ...]:
    return tuple(f"{a} {b}" for a, b in product(heads.split(), tails.split()))


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


_TRAIN_POOLS = {
    "pessoas": _people(
        "Ana Bruno Carla Diego Elisa Fábio Gabriela Heitor Íris João Karina Lucas Marina Nelson "
        "Olívia Paulo Renata Sérgio Tânia Vítor Zélia Otávio Luíza Antônio",
        "Silva Souza Costa Pereira Almeida Ferreira Gonçalves Araújo Ribeiro Cardoso Melo Barros",
    ),
    "títulos": _pairs(
        "Noite Caminho Sombra Luz Segredo Jardim Cidade Tempo Vento Estrela Canção Memória",
        "Azul Distante Breve Celeste Feliz Triste Verde Final Simples Invisível",
    ),
    "produtos": _pairs(
        "Caneca Mochila Cadeira Lâmpada Camisa Garrafa Mesa Bola Relógio Tesoura Panela Caderno",
        "Prime Max Luna Sol Ágil Nova Plus Rio Delta Zen",
    ),
    "empresas": _pairs(
        "Casa Grupo Loja Rede Oficina Mercado Clínica Escola Ateliê Posto",
        "Aurora Horizonte Atlântica Primavera Central Esperança União Ipê Bandeirante Progresso",
    ),
    "cidades": _list(
        "Recife, Salvador, Curitiba, Manaus, Belém, Fortaleza, Goiânia, Campinas, Natal, Santos, "
        "Maceió, Teresina, Londrina, Niterói, Olinda, São Paulo, Belo Horizonte, Porto Alegre"
    ),
    "estados": _list(
        "Bahia, Paraná, Ceará, Goiás, Pará, Acre, Sergipe, Minas Gerais, Piauí, Amazonas, Paraíba"
    ),
    "países": _list(
        "Brasil, Peru, Chile, Argentina, Uruguai, Portugal, Espanha, França, Itália, México, Japão"
    ),
    "cores": _list("azul, verde, vermelho, amarelo, preto, branco, cinza, roxo, laranja, marrom"),
    "categorias": _list(
        "básico, premium, infantil, clássico, importado, artesanal, esportivo, popular, digital, "
        "orgânico, escolar"
    ),
    "situações": _list("ativo, inativo, pendente, aprovado, cancelado, suspenso, concluído, novo"),
    "profissões": _list(
        "médico, professora, motorista, pintor, advogada, cozinheiro, dentista, pedreiro, "
        "jornalista, enfermeira, vendedor"
    ),
    "materiais": _list("madeira, vidro, plástico, algodão, couro, ferro, cerâmica, papel, bambu"),
    "turnos": _list("manhã, tarde, noite, madrugada, integral"),
    "marcas": _list("Solaris, Veltra, Norbex, Quimera, Tropik, Bravia, Lumina, Jatobá, Corvo"),
    "pagamentos": _list("dinheiro, boleto, pix, cartão, cheque, transferência"),
    "idiomas": _list("português, inglês, espanhol, francês, alemão, italiano, japonês, chinês"),
    "bairros": _list(
        "Centro, Boa Vista, Jardim América, Vila Nova, Santa Cruz, Pinheiros, Lapa, Liberdade"
    ),
    "gêneros": _list("drama, comédia, terror, romance, aventura, ficção, suspense, biografia"),
    "setores": _list("vendas, compras, finanças, logística, marketing, jurídico, produção"),
}

_TRAIN_ENTITIES = """
livro:livros:m:t
produto:produtos:m:t
carro:carros:m:t
filme:filmes:m:t
disco:discos:m:t
jogo:jogos:m:t
celular:celulares:m:t
brinquedo:brinquedos:m:t
remédio:remédios:m:t
móvel:móveis:m:t
sapato:sapatos:m:t
vinho:vinhos:m:t
queijo:queijos:m:t
quadro:quadros:m:t
instrumento:instrumentos:m:t
computador:computadores:m:t
equipamento:equipamentos:m:t
veículo:veículos:m:t
peça:peças:f:t
bicicleta:bicicletas:f:t
planta:plantas:f:t
bebida:bebidas:f:t
receita:receitas:f:t
revista:revistas:f:t
música:músicas:f:t
máquina:máquinas:f:t
joia:joias:f:t
ferramenta:ferramentas:f:t
roupa:roupas:f:t
motocicleta:motocicletas:f:t
embalagem:embalagens:f:t
cliente:clientes:m:p
aluno:alunos:m:p
professor:professores:m:p
médico:médicos:m:p
funcionário:funcionários:m:p
autor:autores:m:p
vendedor:vendedores:m:p
motorista:motoristas:m:p
jogador:jogadores:m:p
ator:atores:m:p
cantor:cantores:m:p
paciente:pacientes:m:p
morador:moradores:m:p
advogado:advogados:m:p
fornecedor:fornecedores:m:p
usuário:usuários:m:p
sócio:sócios:m:p
enfermeira:enfermeiras:f:p
bailarina:bailarinas:f:p
pessoa:pessoas:f:p
cozinheira:cozinheiras:f:p
hotel:hotéis:m:l
museu:museus:m:l
hospital:hospitais:m:l
restaurante:restaurantes:m:l
parque:parques:m:l
aeroporto:aeroportos:m:l
banco:bancos:m:l
time:times:m:l
teatro:teatros:m:l
departamento:departamentos:m:l
laboratório:laboratórios:m:l
escola:escolas:f:l
loja:lojas:f:l
empresa:empresas:f:l
fábrica:fábricas:f:l
fazenda:fazendas:f:l
biblioteca:bibliotecas:f:l
farmácia:farmácias:f:l
universidade:universidades:f:l
praia:praias:f:l
padaria:padarias:f:l
editora:editoras:f:l
pedido:pedidos:m:e
evento:eventos:m:e
curso:cursos:m:e
contrato:contratos:m:e
projeto:projetos:m:e
voo:voos:m:e
exame:exames:m:e
pagamento:pagamentos:m:e
show:shows:m:e
empréstimo:empréstimos:m:e
venda:vendas:f:e
compra:compras:f:e
consulta:consultas:f:e
viagem:viagens:f:e
aula:aulas:f:e
partida:partidas:f:e
entrega:entregas:f:e
reunião:reuniões:f:e
ligação:ligações:f:e
nota fiscal:notas fiscais:f:e
"""

_TRAIN_ATTRIBUTES = """
nome:nomes:m:text:p:*pessoas
nome:nomes:m:text:l:*empresas
nome:nomes:m:text:t:*produtos
título:títulos:m:text:te:*títulos
responsável:responsáveis:m:text:le:pessoas
cidade:cidades:f:text:ple:cidades
estado:estados:m:text:pl:estados
país:países:m:text:plt:países
cor:cores:f:text:t:cores
categoria:categorias:f:text:tle:categorias
situação:situações:f:text:pte:situações
profissão:profissões:f:text:p:profissões
material:materiais:m:text:t:materiais
turno:turnos:m:text:pe:turnos
marca:marcas:f:text:t:marcas
forma de pagamento:formas de pagamento:f:text:e:pagamentos
idioma:idiomas:m:text:pte:idiomas
bairro:bairros:m:text:pl:bairros
gênero:gêneros:m:text:t:gêneros
setor:setores:m:text:pe:setores
idade:idades:f:integer:p:16-90
ano:anos:m:integer:tle:1950-2024
quantidade:quantidades:f:integer:te:1-300
estoque:estoques:m:integer:t:0-500
duração:durações:f:integer:te:5-240
capacidade:capacidades:f:integer:le:20-9000
número de funcionários:números de funcionários:m:integer:l:3-800
número de filhos:números de filhos:m:integer:p:0-7
pontuação:pontuações:f:integer:pe:1-120
frequência:frequências:f:integer:p:1-30
número de andares:números de andares:m:integer:l:1-40
público:públicos:m:integer:le:10-5000
código:códigos:m:integer:te:20-900
distância:distâncias:f:integer:e:2-3000
número de parcelas:números de parcelas:m:integer:e:1-36
preço:preços:m:real:te:5-900
preço unitário:preços unitários:m:real:te:1-400
peso:pesos:m:real:tp:1-120
altura:alturas:f:real:tpl:1-60
largura:larguras:f:real:t:1-30
salário:salários:m:real:p:1400-15000
valor:valores:m:real:te:10-5000
desconto:descontos:m:real:te:1-50
nota:notas:f:real:tpl:0-10
área:áreas:f:real:l:20-900
comissão:comissões:f:real:pe:1-90
saldo:saldos:m:real:p:0-8000
taxa de entrega:taxas de entrega:f:real:le:3-60
temperatura:temperaturas:f:real:tl:2-40
data de cadastro:datas de cadastro:f:date:pl:2015-2024
data de nascimento:datas de nascimento:f:date:p:1950-2008
data da compra:datas da compra:f:date:te:2018-2024
data de início:datas de início:f:date:e:2016-2024
vencimento:vencimentos:m:date:te:2021-2026
"""

_TEST_POOLS = {
    "pessoas": _people(
        "Beatriz Caio Débora Emílio Flávia Gustavo Helena Ivo Júlia Leandro Mônica Nádia Osvaldo "
        "Priscila Raul Simone Tomás Úrsula Wagner Yara",
        "Azevedo Batista Cunha Duarte Esteves Farias Guimarães Lacerda Moraes Nogueira Queiroz",
    ),
    "obras": _pairs(
        "Rumo Farol Ponte Espelho Labirinto Aurora Tempestade Horta Ilha Fronteira",
        "Selvagem Imortal Rebelde Ardente Veloz Sutil Solar Feroz",
    ),
    "itens": _pairs(
        "Martelo Tapete Ventilador Chaleira Jaqueta Travesseiro Violino Lanterna Peneira Abajur",
        "Turbo Eco Fênix Mini Ouro Titã Vega Onda",
    ),
    "organizações": _pairs(
        "Instituto Armazém Estúdio Cooperativa Galpão Pousada Núcleo Fundação",
        "Mangueira Cristal Serrana Vitória Araucária Pioneiro Lagoa Boreal",
    ),
    "municípios": _list(
        "Joinville, Uberaba, Petrópolis, Caruaru, Sobral, Ilhéus, Blumenau, Macapá, Palmas, "
        "Cuiabá, Pelotas, Sorocaba, Vitória da Conquista, Juiz de Fora"
    ),
    "nacionalidades": _list(
        "brasileira, peruana, chilena, boliviana, angolana, grega, turca, coreana, sueca"
    ),
    "tamanhos": _list("pequeno, médio, grande, enorme, compacto, gigante"),
    "sabores": _list("morango, baunilha, limão, coco, chocolate, hortelã, abacaxi, canela"),
    "estilos": _list("barroco, moderno, rústico, minimalista, gótico, tropical, industrial"),
    "regiões": _list("norte, sul, leste, oeste, nordeste, sudeste, litoral, serra"),
    "cargos": _list("gerente, analista, diretora, estagiário, técnica, supervisor, assistente"),
    "fases": _list("planejado, iniciado, pausado, revisado, encerrado, arquivado"),
    "fabricantes": _list("Hidrona, Mobilar, Zenith, Ferrovel, Galatéia, Pantaneira, Oxum, Kaluá"),
    "formações": _list("biologia, história, direito, química, filosofia, pedagogia, engenharia"),
    "prioridades": _list("alta, baixa, urgente, normal, crítica"),
    "transportes": _list("barco, trem, caminhão, avião, metrô, bonde"),
    "ritmos": _list("samba, forró, choro, frevo, xote, bossa, axé"),
    "solos": _list("argila, areia, granito, calcário, turfa, cascalho"),
}

_TEST_ENTITIES = """
barco:barcos:m:t
relógio:relógios:m:t
perfume:perfumes:m:t
tecido:tecidos:m:t
sorvete:sorvetes:m:t
aparelho:aparelhos:m:t
robô:robôs:m:t
satélite:satélites:m:t
caminhão:caminhões:m:t
selo:selos:m:t
chapéu:chapéus:m:t
animal:animais:m:t
sensor:sensores:m:t
escultura:esculturas:f:t
lâmpada:lâmpadas:f:t
moeda:moedas:f:t
fantasia:fantasias:f:t
semente:sementes:f:t
impressora:impressoras:f:t
vacina:vacinas:f:t
sobremesa:sobremesas:f:t
câmera:câmeras:f:t
cirurgião:cirurgiões:m:p
atleta:atletas:m:p
pescador:pescadores:m:p
tradutor:tradutores:m:p
piloto:pilotos:m:p
voluntário:voluntários:m:p
inquilino:inquilinos:m:p
turista:turistas:m:p
poeta:poetas:m:p
técnico:técnicos:m:p
pesquisador:pesquisadores:m:p
juíza:juízas:f:p
costureira:costureiras:f:p
arquiteta:arquitetas:f:p
testemunha:testemunhas:f:p
estádio:estádios:m:l
porto:portos:m:l
clube:clubes:m:l
vilarejo:vilarejos:m:l
zoológico:zoológicos:m:l
cartório:cartórios:m:l
canal:canais:m:l
albergue:albergues:m:l
estação:estações:f:l
usina:usinas:f:l
galeria:galerias:f:l
academia:academias:f:l
prefeitura:prefeituras:f:l
ilha:ilhas:f:l
livraria:livrarias:f:l
agência:agências:f:l
torneio:torneios:m:e
leilão:leilões:m:e
processo:processos:m:e
chamado:chamados:m:e
aluguel:aluguéis:m:e
desfile:desfiles:m:e
treino:treinos:m:e
reserva:reservas:f:e
inscrição:inscrições:f:e
auditoria:auditorias:f:e
expedição:expedições:f:e
obra:obras:f:e
doação:doações:f:e
palestra:palestras:f:e
"""

_TEST_ATTRIBUTES = """
nome:nomes:m:text:p:*pessoas
denominação:denominações:f:text:l:*organizações
descrição:descrições:f:text:t:*itens
assunto:assuntos:m:text:e:*obras
apelido:apelidos:m:text:t:*obras
coordenador:coordenadores:m:text:le:pessoas
município:municípios:m:text:ple:municípios
nacionalidade:nacionalidades:f:text:p:nacionalidades
tamanho:tamanhos:m:text:tl:tamanhos
sabor:sabores:m:text:t:sabores
estilo:estilos:m:text:tle:estilos
região:regiões:f:text:ple:regiões
cargo:cargos:m:text:p:cargos
fase:fases:f:text:te:fases
fabricante:fabricantes:m:text:t:fabricantes
formação:formações:f:text:p:formações
prioridade:prioridades:f:text:e:prioridades
transporte:transportes:m:text:pe:transportes
ritmo:ritmos:m:text:pe:ritmos
tipo de solo:tipos de solo:m:text:l:solos
experiência:experiências:f:integer:p:1-45
colocação:colocações:f:integer:pe:1-60
lotação:lotações:f:integer:e:2-900
população:populações:f:integer:l:50-90000
volume:volumes:m:integer:t:1-700
potência:potências:f:integer:tl:5-900
velocidade:velocidades:f:integer:t:3-400
fundação:fundações:f:integer:l:1890-2020
tempo de espera:tempos de espera:m:integer:pe:1-25
garantia:garantias:f:integer:t:3-60
alcance:alcances:m:integer:le:1-400
carga horária:cargas horárias:f:integer:p:2-200
custo:custos:m:real:tle:10-7000
custo de manutenção:custos de manutenção:m:real:tl:20-900
comprimento:comprimentos:m:real:t:1-80
profundidade:profundidades:f:real:tl:1-300
renda:rendas:f:real:p:1500-20000
orçamento:orçamentos:m:real:le:100-9000
lucro:lucros:m:real:le:10-4000
avaliação:avaliações:f:real:tpl:0-10
consumo:consumos:m:real:tl:1-90
mensalidade:mensalidades:f:real:pl:40-900
multa:multas:f:real:pe:5-600
admissão:admissões:f:date:p:2010-2024
data de fabricação:datas de fabricação:f:date:t:2012-2024
inauguração:inaugurações:f:date:l:1990-2023
prazo:prazos:m:date:e:2020-2026
encerramento:encerramentos:m:date:e:2019-2025
"""

TRAIN_LEXICON = Lexicon(
    parse_entities(_TRAIN_ENTITIES), parse_attributes(_TRAIN_ATTRIBUTES, _TRAIN_POOLS)
)
TEST_LEXICON = Lexicon(
    parse_entities(_TEST_ENTITIES), parse_attributes(_TEST_ATTRIBUTES, _TEST_POOLS)
)
