{{/* There is one service proxy in a cluster, so that names are fixed. */}}

{{- define "portolan.selectorLabels" -}}
app.kubernetes.io/name: portolan
{{- end }}

{{- define "portolan.labels" -}}
{{ include "portolan.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The Service kube-dns selects pods by the first of them. */}}
{{- define "portolan.dnsSelectorLabels" -}}
k8s-app: kube-dns
app.kubernetes.io/name: portolan-dns
{{- end }}

{{- define "portolan.dnsLabels" -}}
{{ include "portolan.dnsSelectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Not empty if rules are written with the programs of iptables. */}}
{{- define "portolan.iptables" -}}
{{- $mode := .Values.config.mode | default "nftables" -}}
{{- $diversion := dig "userspace" "diversion" "nftables" .Values.config -}}
{{- if or (eq $mode "iptables") (and (eq $mode "userspace") (eq $diversion "iptables")) -}}
true
{{- end -}}
{{- end }}

{{/* Not empty if there are pools of load-balancer addresses. */}}
{{- define "portolan.pools" -}}
{{- if dig "loadBalancer" "pools" (list) .Values.config -}}
true
{{- end -}}
{{- end }}

{{/* Not empty if load-balancer addresses are announced on the local network: where there are pools,
unless somebody says otherwise. */}}
{{- define "portolan.layer2" -}}
{{- if dig "announcement" "layer2" (eq (include "portolan.pools" .) "true") .Values.config -}}
true
{{- end -}}
{{- end }}

{{/* Not empty if load-balancer addresses are allocated. */}}
{{- define "portolan.controller" -}}
{{- if or .Values.controller.enabled (include "portolan.pools" .) -}}
true
{{- end -}}
{{- end }}

{{- define "portolan.controllerSelectorLabels" -}}
app.kubernetes.io/name: portolan-controller
{{- end }}

{{- define "portolan.controllerLabels" -}}
{{ include "portolan.controllerSelectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "portolan.image" -}}
{{- $suffix := empty (include "portolan.iptables" .) | ternary "" "-iptables" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (print .Chart.AppVersion $suffix) }}
{{- end }}

{{/* The number after the last colon of an address and port. */}}
{{- define "portolan.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}

{{- define "portolan.config" -}}
{{- $own := dict
  "apiVersion" "kubeproxy.config.k8s.io/v1alpha1"
  "kind" "KubeProxyConfiguration"
  "clientConnection" (dict "kubeconfig" "/var/lib/portolan-config/kubeconfig.conf") -}}
{{- if include "portolan.layer2" . }}
{{- $own = set $own "announcement" (dict "keyFile" "/var/lib/portolan-announcement/key") -}}
{{- end -}}
{{ merge $own (deepCopy .Values.config) | toYaml }}
{{- end }}

{{- define "portolan.kubeconfig" -}}
{{- $message := "apiServer: give the API server's own address, such as https://192.0.2.10:6443 (kubectl config view --minify shows it)" -}}
apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster:
    server: {{ required $message .Values.apiServer | quote }}
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
users:
- name: portolan
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
contexts:
- name: portolan
  context:
    cluster: cluster
    user: portolan
current-context: portolan
{{- end }}

{{/* What both containers have. */}}
{{- define "portolan.container" -}}
image: {{ include "portolan.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}
